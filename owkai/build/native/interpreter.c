/* bin/owkai of an unpacked bundle: CPython in isolated mode that runs the command line of OW-kai Analytics.
 *
 * Every path is derived from the location of this program. Neither the environment (PYTHONPATH, PYTHONHOME, PYTHONSTARTUP
 * and similar), nor the working folder, nor a user's site folder adds a module, and nothing is written beside it.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef START /* the build tries the bundle out with another one */
#define START "from owkai.cli import main; main(prog_name='owkai')"
#endif

/* The folder above bin/. */
static int find_home(char home[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", home, PATH_MAX - 1);
    if (length <= 0) return -1;
    home[length] = 0;
    for (int level = 0; level < 2; level++) {
        char *slash = strrchr(home, '/');
        if (slash == NULL) return -1;
        *slash = 0;
    }
    return 0;
}

/* Polars is compiled for this level, and looks for it with memory that is both written and run, which a service may be
 * denied (MemoryDenyWriteExecute). So it is checked here, and the check in Polars is disabled. */
static int processor_is_supported(void) {
    if (!__builtin_cpu_supports("x86-64-v3") || !__builtin_cpu_supports("pclmul")) {
        fputs("owkai: this processor is too old: x86-64-v3 is needed (AVX2, BMI2, FMA; Intel since 2013, AMD since 2015)\n",
              stderr);
        return 0;
    }
    return setenv("POLARS_SKIP_CPU_CHECK", "1", 1) == 0;
}

/* The compiler's run-time libraries are the machine's, where it has them; a loaded one is found by name afterwards. */
static void load_compiler_libraries(const char *home) {
    static const char *const names[] = {"libgcc_s.so.1", "libstdc++.so.6"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX + 64];
        if (dlopen(names[i], RTLD_NOW) != NULL) continue;
        snprintf(path, sizeof path, "%s/lib/fallback/%s", home, names[i]);
        if (dlopen(path, RTLD_NOW) == NULL) fprintf(stderr, "owkai: %s\n", dlerror());
    }
}

static PyStatus append_path(PyConfig *config, const char *home, const char *folder) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", home, folder);
    wchar_t *wide = Py_DecodeLocale(path, NULL);
    if (wide == NULL) return PyStatus_NoMemory();
    PyStatus status = PyWideStringList_Append(&config->module_search_paths, wide);
    PyMem_RawFree(wide);
    return status;
}

static PyStatus set_path(PyConfig *config, wchar_t **field, const char *home, const char *name) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s%s", home, name);
    return PyConfig_SetBytesString(config, field, path);
}

int main(int argc, char **argv) {
    static const char *const folders[] = {"lib/python", "lib/python/lib-dynload", "packages", "app"};
    char home[PATH_MAX];
    PyPreConfig first;
    PyConfig config;
    PyStatus status;

    if (find_home(home) != 0) {
        fputs("owkai: cannot find the location of this program; /proc must be mounted\n", stderr);
        return 2;
    }
    if (!processor_is_supported()) return 2;
    load_compiler_libraries(home);
    PyPreConfig_InitIsolatedConfig(&first);
    first.utf8_mode = 1; /* texts and file names are UTF-8 whatever the locale of the service */
    status = Py_PreInitialize(&first);
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);

    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 1;
    config.site_import = 0;
    config.write_bytecode = 0;
    config.pathconfig_warnings = 0;
    config.module_search_paths_set = 1;
    status = PyConfig_SetBytesArgv(&config, argc, argv);
    for (size_t i = 0; i < sizeof folders / sizeof *folders && !PyStatus_Exception(status); i++)
        status = append_path(&config, home, folders[i]);
    if (!PyStatus_Exception(status)) status = set_path(&config, &config.home, home, "");
    if (!PyStatus_Exception(status)) status = set_path(&config, &config.prefix, home, "");
    if (!PyStatus_Exception(status)) status = set_path(&config, &config.exec_prefix, home, "");
    if (!PyStatus_Exception(status)) status = set_path(&config, &config.base_prefix, home, "");
    if (!PyStatus_Exception(status)) status = set_path(&config, &config.base_exec_prefix, home, "");
    if (!PyStatus_Exception(status)) status = set_path(&config, &config.executable, home, "/bin/owkai");
    if (!PyStatus_Exception(status)) status = set_path(&config, &config.base_executable, home, "/bin/owkai");
    if (!PyStatus_Exception(status)) status = PyConfig_SetBytesString(&config, &config.run_command, START);
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
    return Py_RunMain();
}

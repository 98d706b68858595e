"""Packaging: one executable file, a Debian package, checksums and a bill of materials. `python -m owkai.build`.

Needed on the machine that builds: Linux on x86-64, this project installed from its lock, a C compiler with binutils, the
static libraries of glibc and zstd, the programs zstd and (for the Debian package) dpkg-deb. No network, no root.

Steps: `shipped_packages` selects the locked packages that the server needs and checks that their files are as published;
`bundle_files` copies interpreter, packages and our own code into one folder; `libraries` adds the shared libraries that the
target may lack; `archive` appends the compressed folder to the launcher; `debian` and `sbom` write the rest.
"""

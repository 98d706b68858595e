"""Packaging: one executable file, a Debian package, checksums and a bill of materials. `python -m owkai.build`.

Needed on the machine that builds: Linux on x86-64, this project installed from its lock, a C compiler with binutils, the
static libraries of glibc and zstd, the programs zstd and (for the Debian package) dpkg-deb. No network, no root.

The road: `distributions` says which locked packages the server needs and that their files are as published; `tree` lays
interpreter, packages and rooms into one folder; `libraries` adds what the machine's own libraries must not be relied on
for; `archive` writes the folder, compressed, behind the launcher; `debian` and `sbom` make the rest.
"""

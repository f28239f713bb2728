# SPDX-License-Identifier: Apache-2.0
"""The Python package: put together from the sources and the schema, and made into what is installed.

    build.py FOLDER VERSION      the package with its generated module, as CMake makes it
    build.py wheel FOLDER        a wheel of that, and a source archive, beside it

It is also the build backend that pyproject.toml names (PEP 517), so `pip install FOLDER` works without
network and without any other package. A wheel is a zip file with three files of its own; what is made
of the same sources is the same, byte for byte.

The module that protoc generates keeps its schema in a pool of its own: a program may have a
backend.proto of its own, or that of another version of usher."""

import base64
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

NAME = "usher_backend"
HERE = os.path.dirname(os.path.abspath(__file__))
EPOCH = (1980, 1, 1, 0, 0, 0)  # as old as a zip file can say
KEPT = ("build.py", "pyproject.toml", "README.md")
POOL = "_descriptor_pool.Default()"
OWN_POOL = "_descriptor_pool.DescriptorPool()"


def generate(folder, proto):
    with tempfile.TemporaryDirectory() as out:
        command = ["protoc", f"--proto_path={proto}", f"--python_out={out}", f"--pyi_out={out}"]
        subprocess.run([*command, "backend.proto"], check=True)
        with open(f"{out}/backend_pb2.py", encoding="utf-8") as file:
            text = file.read()
        if POOL not in text:
            raise SystemExit("protoc writes something else than before: where is its pool?")
        with open(f"{folder}/{NAME}/backend_pb2.py", "w", encoding="utf-8") as file:
            file.write(text.replace(POOL, OWN_POOL))
        shutil.copyfile(f"{out}/backend_pb2.pyi", f"{folder}/{NAME}/backend_pb2.pyi")


def assemble(folder, version):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(f"{folder}/{NAME}")
    for name in sorted(os.listdir(f"{HERE}/{NAME}")):
        if name.endswith(".py") or name == "py.typed":
            shutil.copyfile(f"{HERE}/{NAME}/{name}", f"{folder}/{NAME}/{name}")
    generate(folder, os.path.join(HERE, "..", "..", "proto"))
    for name in KEPT:
        shutil.copyfile(f"{HERE}/{name}", f"{folder}/{name}")
    shutil.copyfile(f"{HERE}/../../LICENSE", f"{folder}/LICENSE")
    write(f"{folder}/PKG-INFO", metadata(folder, version))


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def metadata(folder, version):
    with open(f"{folder}/README.md", encoding="utf-8") as file:
        about = file.read()
    return (
        f"Metadata-Version: 2.1\nName: usher-backend\nVersion: {version}\n"
        "Summary: Services behind the usher message broker\n"
        "License: Apache-2.0\nRequires-Python: >=3.11\nRequires-Dist: protobuf (>=4.21)\n"
        f"Description-Content-Type: text/markdown\n\n{about}"
    )


def version_of(folder):
    with open(f"{folder}/PKG-INFO", encoding="utf-8") as file:
        return re.search(r"^Version: (\S+)$", file.read(), re.M)[1]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


# --- PEP 517: called in the folder that `assemble` made -------------------------------------------


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if not os.path.exists("PKG-INFO"):
        raise SystemExit("install the package of the build folder: clients/python/package")
    info = f"{NAME}-{version_of('.')}.dist-info"
    files = {
        f"{NAME}/{name}": read(f"{NAME}/{name}")
        for name in sorted(os.listdir(NAME))
        if not name.startswith("__pycache__")
    }
    files[f"{info}/METADATA"] = read("PKG-INFO")
    files[f"{info}/LICENSE"] = read("LICENSE")
    files[
        f"{info}/WHEEL"
    ] = b"Wheel-Version: 1.0\nGenerator: usher\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = "".join(record_line(name, data) for name, data in files.items())
    files[f"{info}/RECORD"] = (lines + f"{info}/RECORD,,\n").encode()
    wheel = f"{NAME}-{version_of('.')}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(entry, data)
    return wheel


def build_sdist(sdist_directory, config_settings=None):
    top = f"{NAME}-{version_of('.')}"
    names = ["PKG-INFO", "LICENSE", *KEPT]
    names += [f"{NAME}/{name}" for name in sorted(os.listdir(NAME)) if "__pycache__" not in name]
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as out:
        for name in names:
            data = read(name)
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode = len(data), 0o644
            out.addfile(entry, io.BytesIO(data))
    with open(os.path.join(sdist_directory, f"{top}.tar.gz"), "wb") as file:
        file.write(gzip.compress(plain.getvalue(), 9, mtime=0))
    return f"{top}.tar.gz"


def main():
    if sys.argv[1] == "wheel":
        folder = os.path.abspath(sys.argv[2])
        os.chdir(folder)
        print(build_wheel(".."), build_sdist(".."))
    else:
        assemble(os.path.abspath(sys.argv[1]), sys.argv[2])


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The package as others get it: a wheel and a source archive, put where nothing else is, and used.

    package_test.py PACKAGE"""

import base64
import csv
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile

PACKAGE = sys.argv.pop(1)
USE = """\
import asyncio, importlib.metadata, usher_backend
print(usher_backend.__file__)
print(importlib.metadata.version("usher-backend"))

async def main():
    async with usher_backend.service("x", link="ipc:///nowhere/at/all", stop_seconds=0.01) as x:
        try:
            await x.push("ann", b"x" * 100000)
        except usher_backend.TooLarge as error:
            print(error.done)

asyncio.run(main())
# One that has a backend.proto of its own does not meet ours.
from google.protobuf import descriptor_pb2, descriptor_pool
mine = descriptor_pb2.FileDescriptorProto(name="backend.proto", package="usher.v1")
mine.message_type.add(name="LinkRequest")
descriptor_pool.Default().Add(mine)
print("alone")
"""


def built(folder):
    shutil.copytree(PACKAGE, f"{folder}/package")
    script = f"{folder}/package/build.py"
    run([sys.executable, script, "wheel", f"{folder}/package"])
    names = sorted(name for name in os.listdir(folder) if name != "package")
    return [os.path.join(folder, name) for name in names]


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def use(folder):
    """As a program that finds the package there alone."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": folder}
    return run([sys.executable, "-B", "-c", USE], env=environment, cwd="/").splitlines()


class Package(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="usher-package-")
        self.addCleanup(self.folder.cleanup)
        self.wheel, self.archive = built(self.folder.name)

    def check_use(self, where):
        place, version, done, alone = use(where)
        self.assertTrue(place.startswith(where), place)
        self.assertIn(f"-{version}-", self.wheel)
        self.assertEqual((done, alone), ("no", "alone"))

    def test_the_wheel(self):
        with zipfile.ZipFile(self.wheel) as wheel:
            names = wheel.namelist()
            record = next(name for name in names if name.endswith("/RECORD"))
            rows = list(csv.reader(io.StringIO(wheel.read(record).decode())))
            self.assertEqual(sorted(row[0] for row in rows), sorted(names))
            for name, digest, size in rows:
                if name != record:
                    data = wheel.read(name)
                    sha = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
                    self.assertEqual((digest, int(size)), (f"sha256={sha.decode()}", len(data)))
            for name in ("backend_pb2.py", "backend_pb2.pyi", "py.typed", "service.py"):
                self.assertIn(f"usher_backend/{name}", names)
            self.assertIn("LICENSE", "".join(names))
            wheel.extractall(f"{self.folder.name}/site")
        self.check_use(f"{self.folder.name}/site")

    def test_the_same_again(self):
        with open(self.wheel, "rb") as file:
            first = file.read()
        with tempfile.TemporaryDirectory() as other, open(built(other)[0], "rb") as file:
            self.assertEqual(file.read(), first)

    @unittest.skipUnless(importlib.util.find_spec("pip"), "no pip")
    def test_pip(self):
        """The folder, the archive and the wheel, without network."""
        for number, what in enumerate((f"{self.folder.name}/package", self.archive, self.wheel)):
            where = f"{self.folder.name}/site{number}"
            command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
            run(
                [*command, "--target", where, what],
                env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
            )
            self.check_use(where)

    def test_the_archive(self):
        with tarfile.open(self.archive) as archive:
            names = [name.partition("/")[2] for name in archive.getnames()]
        for name in ("PKG-INFO", "pyproject.toml", "build.py", "usher_backend/backend_pb2.py"):
            self.assertIn(name, names)


if __name__ == "__main__":
    unittest.main()

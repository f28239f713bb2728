# SPDX-License-Identifier: Apache-2.0
"""For machines that are not Debian 12, and for containers: everything but glibc in one folder, and that folder
with glibc as an image.

    archive.py tarball BUILD OUT     usher-VERSION-linux-MACHINE.tar.gz
    archive.py image BUILD OUT       usher-VERSION-oci-MACHINE.tar, by umoci, from that archive in OUT

The libraries that the programs are linked to come from this machine, with their licences and versions; the
programs look for them beside themselves (RPATH, by patchelf). What is made of the same build at the same
SOURCE_DATE_EPOCH is the same, byte for byte: an update of one of those libraries is another archive."""

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.join(HERE, "..", "..")
MACHINE = os.uname().machine
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What the archive leaves to the machine and the image brings: by the name of Debian's package.
OF_THE_MACHINE = {"libc6", "libgcc-s1"}
LIBRARIES = "lib/usher"
# Who runs in the image, and what with: as in cmake/Containerfile, which a test compares.
USER = 7400
ENTRYPOINT = [
    "usherd",
    "--set",
    "listen.tcp=0.0.0.0:7400",
    "--set",
    "store.path=/var/lib/usher",
    "--set",
    "link.urls=ipc:///run/usher/link.sock",
    "--set",
    "log.format=json",
]


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def epoch():
    return int(os.environ.get("SOURCE_DATE_EPOCH", "1764547200"))


def version_of_project():
    with open(os.path.join(REPOSITORY, "CMakeLists.txt"), encoding="utf-8") as file:
        return re.search(r"project\(usher VERSION (\S+)", file.read()).group(1)


# --- libraries ------------------------------------------------------------------------------------


def linked(programs):
    """{name that is looked for: path here}, of all programs, with what those libraries want."""
    found = {}
    for path in programs:
        found |= dict(re.findall(r"^\s*(\S+) => (/\S+)", run("ldd", path), re.M))
    return found


def package_of(path):
    """Debian's package, without its architecture. (Where /lib is a link, its name may be the other one.)"""
    real = os.path.realpath(path)
    names = {real, real.removeprefix("/usr")}
    done = subprocess.run(["dpkg-query", "--search", *names], text=True, capture_output=True)
    return done.stdout.partition(":")[0] or sys.exit(f"of which package is {path}?")


def bring_libraries(top, programs):
    """Gives the packages that they are from."""
    packages = set()
    os.makedirs(f"{top}/{LIBRARIES}")
    for name, path in sorted(linked(programs).items()):
        package = package_of(path)
        if package not in OF_THE_MACHINE:
            packages.add(package)
            shutil.copyfile(os.path.realpath(path), f"{top}/{LIBRARIES}/{name}")
    return sorted(packages)


def bring_papers(top, packages):
    """The licence and the version of each."""
    papers = f"{top}/share/doc/usher/libraries"
    os.makedirs(papers)
    text = run("dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages)
    with open(f"{papers}/VERSIONS", "w", encoding="utf-8") as file:
        file.write("".join(sorted(set(text.splitlines(True)))))
    for package in packages:
        shutil.copyfile(f"/usr/share/doc/{package}/copyright", f"{papers}/{package}.copyright")


# --- the archive ----------------------------------------------------------------------------------


def assemble(build, top):
    """The folder as it is unpacked."""
    with tempfile.TemporaryDirectory() as place:
        for component in ("broker", "tools"):
            command = ["cmake", "--install", build, "--prefix", place, "--component", component]
            run(*command, "--strip")
        os.makedirs(f"{top}/bin")
        for folder in ("bin", "sbin"):
            for name in os.listdir(f"{place}/{folder}"):
                shutil.copy(f"{place}/{folder}/{name}", f"{top}/bin/{name}")
        shutil.copytree(f"{place}/share", f"{top}/share")
    os.makedirs(f"{top}/share/doc/usher", exist_ok=True)
    for name in ("usher.service", "usher.socket", "usherd.yaml"):
        shutil.copyfile(f"{HERE}/{name}", f"{top}/share/usher/{name}")
    for name in ("CHANGELOG.md", "openapi.json"):
        shutil.copyfile(f"{REPOSITORY}/docs/{name}", f"{top}/share/doc/usher/{name}")
    shutil.copyfile(f"{REPOSITORY}/LICENSE", f"{top}/LICENSE")
    shutil.copyfile(f"{HERE}/archive.md", f"{top}/README.md")
    programs = [f"{top}/bin/{name}" for name in sorted(os.listdir(f"{top}/bin"))]
    bring_papers(top, bring_libraries(top, programs))
    # Of the old kind: the libraries find one another by it too.
    for path in programs:
        run("patchelf", "--force-rpath", "--set-rpath", f"$ORIGIN/../{LIBRARIES}", path)


def write_tar(path, entries):
    """entries: (name, what is at that path here or bytes or None for a folder, mode, owner)."""
    with io.BytesIO() as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as out:
            for name, data, mode, owner in entries:
                entry = tarfile.TarInfo(name)
                entry.mode, entry.mtime, entry.uid, entry.gid = mode, epoch(), owner, owner
                if data is None:
                    entry.type = tarfile.DIRTYPE
                elif isinstance(data, str):
                    with open(data, "rb") as file:
                        data = file.read()
                entry.size = len(data or b"")
                out.addfile(entry, io.BytesIO(data or b""))
        write(path, plain.getvalue())


def write(path, data):
    """Compressed, if its name says so."""
    if path.endswith(".gz"):
        data = gzip.compress(data, 9, mtime=epoch())
    with open(path, "wb") as file:
        file.write(data)


def tree(top, below):
    """The entries of a folder, in order."""
    found = []
    for folder, folders, names in os.walk(top):
        folders.sort()
        place = os.path.normpath(os.path.join(below, os.path.relpath(folder, top)))
        found.append((place, None, 0o755, 0))
        for name in sorted(names):
            path = os.path.join(folder, name)
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            found.append((f"{place}/{name}", path, mode, 0))
    return found


def tarball(build, out):
    name = f"usher-{version_of_project()}"
    with tempfile.TemporaryDirectory() as folder:
        top = os.path.join(folder, name)
        os.mkdir(top)
        assemble(build, top)
        write_tar(f"{out}/{name}-linux-{MACHINE}.tar.gz", tree(top, name))


# --- the image ------------------------------------------------------------------------------------


def glibc():
    """Its loader and its libraries, as the machine's packages have them; nothing of it but those."""
    found = []
    names = run("dpkg-query", "--listfiles", *sorted(OF_THE_MACHINE)).splitlines()
    for name in sorted(set(names)):
        if re.search(r"/lib(64)?(/[^/]+-linux-gnu)?/[^/]+\.so[.0-9]*$", name) and os.path.isfile(
            name
        ):
            found.append((name.removeprefix("/usr").lstrip("/"), os.path.realpath(name), 0o755, 0))
    return found


def system():
    """What a program expects of a machine."""
    texts = {
        "etc/passwd": f"root:x:0:0::/:/none\nusher:x:{USER}:{USER}::/var/lib/usher:/none\n",
        "etc/group": f"root:x:0:\nusher:x:{USER}:\n",
        "etc/nsswitch.conf": "hosts: files dns\n",
    }
    found = [(name, text.encode(), 0o644, 0) for name, text in texts.items()]
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    if os.path.exists(certificates):
        found.append((certificates.lstrip("/"), certificates, 0o644, 0))
    found += [("var/lib/usher", None, 0o700, USER), ("run/usher", None, 0o700, USER)]
    return found + [("tmp", None, 0o1777, 0)]


def with_folders(entries):
    """Each behind the folders that it lies in."""
    seen = {name for name, data, *_ in entries if data is None}
    done = []
    for entry in entries:
        parts = entry[0].split("/")[:-1]
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            if folder not in seen:
                seen.add(folder)
                done.append((folder, None, 0o755, 0))
        done.append(entry)
    return done


def layer(unpacked, path):
    usher = [entry for entry in tree(unpacked, "usr/local") if "/share/man" not in entry[0]]
    write_tar(path, with_folders(glibc() + system() + usher))


def configure(image):
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch()))
    words = []
    for word in ENTRYPOINT:
        words += ["--config.entrypoint", word]
    run(
        "umoci",
        "config",
        "--image",
        image,
        "--created",
        created,
        "--history.created",
        created,
        "--history.created_by",
        "cmake/package/archive.py",
        "--architecture",
        ARCHITECTURES.get(MACHINE, MACHINE),
        "--os",
        "linux",
        "--config.user",
        f"{USER}:{USER}",
        "--config.workingdir",
        "/var/lib/usher",
        "--config.volume",
        "/var/lib/usher",
        "--config.exposedports",
        "7400/tcp",
        "--config.stopsignal",
        "SIGTERM",
        "--config.env",
        "PATH=/usr/local/bin",
        "--config.env",
        "USHER_LINK=ipc:///run/usher/link.sock",
        "--config.env",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        "--config.label",
        f"org.opencontainers.image.version={version_of_project()}",
        "--config.label",
        "org.opencontainers.image.licenses=Apache-2.0",
        *words,
    )


def image(_, out):
    """The layout of OCI, as one archive."""
    version = version_of_project()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch()))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(f"{out}/usher-{version}-linux-{MACHINE}.tar.gz") as archive:
            archive.extractall(folder)
        layer(f"{folder}/usher-{version}", f"{folder}/layer.tar")
        layout = f"{folder}/image"
        run("umoci", "init", "--layout", layout)
        run("umoci", "new", "--image", f"{layout}:{version}")
        configure(f"{layout}:{version}")
        run(
            "umoci",
            "raw",
            "add-layer",
            "--image",
            f"{layout}:{version}",
            "--history.created",
            created,
            f"{folder}/layer.tar",
        )
        run("umoci", "gc", "--layout", layout)
        entries = [(name.removeprefix("./"), *rest) for name, *rest in tree(layout, "")]
        entries = [entry for entry in entries if entry[0] not in ("", ".")]
        write_tar(f"{out}/usher-{version}-oci-{MACHINE}.tar", entries)


if __name__ == "__main__":
    {"tarball": tarball, "image": image}[sys.argv[1]](*sys.argv[2:])

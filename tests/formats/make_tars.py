"""Makes the tar archives in `tar/`, as real programs write them, and `tar/expected.json`, what Python finds in them.

    python3 tests/formats/make_tars.py

makes all of them anew (with Python 3.11 and GNU tar 1.34 the same bytes, save that `gnu-sparse-posix.tar` names the
process that wrote it), and

    python3 tests/formats/make_tars.py verify

checks that Python's tarfile and GNU tar find in `tar/written.tar`, which this crate wrote, what was written
(`PROCESSION_WRITE_TAR=tests/formats/tar/written.tar cargo test --features tar --test it what_is_written` writes it). If
the package webdataset is installed, its own reader is compared with what is expected of every archive, too.
"""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

HERE = Path(__file__).parent / "tar"

# Python pads archives to 10,240 bytes; that of webdataset is left so.
tarfile.RECORDSIZE = 512

LONG_FOLDER = "f" * 80 + "/"
SHORT_NAMES = [
    "plain/000.jpg",
    "plain/000.cls",
    "plain/001.JPG",
    "plain/001.seg.png",
    "plain/001.cls",
    "plain/000.txt",
    "dots.in.folder/002.tar.gz",
]
NAMES = SHORT_NAMES + [
    "README",
    "plain/.hidden.jpg",
    "__meta__/about.txt",
    "dots.in.folder/none",
    # 100 bytes, the most of a plain header.
    "n" * 96 + ".jpg",
    # Above 100 bytes, with a place to split.
    LONG_FOLDER + "n" * 60 + ".jpg",
    "\u00fcml\u00e4ut/\u00e9t\u00e9.jpg",
    "\u65e5\u672c/\u8a9e.TXT",
]
# What ustar has no place for.
LONG_NAMES = ["m" * 97 + ".jpg", "g" * 200 + "/" + "o" * 200 + ".cls"]


def data_of(name):
    """Some bytes that follow from a name, of lengths around that of a block."""
    length = [0, 1, 511, 512, 513][zlib.crc32(name.encode()) % 5]
    return (f"data of {name}\n".encode() * 30)[:length]


def info_of(name, size=0):
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, 1_000_000_000, 0o644
    return info


def by_python(path, format, names, pax_size=False):
    with tarfile.open(path, "w", format=format) as tar:
        folder = info_of("plain")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name in names:
            info = info_of(name, len(data_of(name)))
            if pax_size:
                # The header's own size is then 0.
                info.pax_headers = {"size": str(info.size), "comment": "two\nlines and 9 size=9\n"}
            tar.addfile(info, io.BytesIO(data_of(name)))
        for name, kind, target in [
            ("plain/hard.jpg", tarfile.LNKTYPE, "plain/000.jpg"),
            ("plain/soft.jpg", tarfile.SYMTYPE, "plain/000.jpg"),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
            ("device.jpg", tarfile.CHRTYPE, ""),
        ]:
            info = info_of(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
        name = "after/the-links.txt"
        tar.addfile(info_of(name, len(data_of(name))), io.BytesIO(data_of(name)))


def by_gnu_tar(path, names, *options):
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data_of(name))
        first = Path(folder) / names[0]
        os.link(first, first.with_suffix(".hard.jpg"))
        first.with_suffix(".soft.jpg").symlink_to(first.name)
        gnu_tar(path, folder, *options, *sorted(os.listdir(folder)))


def gnu_tar(path, folder, *options):
    """As `tar cf PATH .` in a folder, with the same bytes every time."""
    same = ["--sort=name", "--mtime=@1000000000", "--owner=root:0", "--group=root:0", "--mode=u=rwX,go=rX", "-b1"]
    if any("posix" in option for option in options):
        same.append("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")
    subprocess.run(["tar", "-cf", path, "-C", folder, *same, *options], check=True)


def sparse(path, *options):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.cls").write_bytes(b"1")
        with open(Path(folder) / "a.npy", "wb") as file:
            file.seek(1 << 20)
            file.write(b"the end")
        gnu_tar(path, folder, "--sparse", "--hole-detection=raw", *options, "a.cls", "a.npy")


def by_git(path):
    with tempfile.TemporaryDirectory() as folder:
        who = {f"GIT_{role}_{what}": value for role in ["AUTHOR", "COMMITTER"]
               for what, value in [("NAME", "a"), ("EMAIL", "a@b"), ("DATE", "1000000000 +0000")]}
        def git(*command):
            subprocess.run(["git", "-c", "core.autocrlf=false", *command], cwd=folder, check=True, env=os.environ | who,
                           stdout=subprocess.DEVNULL)
        git("init", "-q")
        for name in ["a/1.jpg", "a/1.cls", "b/2.jpg"]:
            file = Path(folder) / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data_of(name))
        git("add", "-A")
        git("commit", "-q", "-m", "a")
        git("archive", "--format=tar", "-o", path, "HEAD")


def by_webdataset(path):
    """As `webdataset.TarWriter` does it, with a time that stays."""
    import webdataset

    tarfile.RECORDSIZE = 10_240
    with open(path, "wb") as file, webdataset.TarWriter(file, mtime=1_000_000_000) as writer:
        for number in range(3):
            writer.write({"__key__": f"train/{number:06d}", "jpg": data_of(f"{number}.jpg"), "cls": str(number),
                          "json": {"number": number}})


SKIPPED = re.compile(r"__[^/]*__($|/)")
KEY = re.compile(r"^((?:.*/|)[^./]+)[.]([^/]*)$")
KINDS = {tarfile.DIRTYPE: "Directory", tarfile.LNKTYPE: "HardLink", tarfile.SYMTYPE: "SymbolicLink",
         tarfile.FIFOTYPE: "Device", tarfile.CHRTYPE: "Device", tarfile.BLKTYPE: "Device"}


def expected_of(path):
    """The samples and the other members of an archive, from Python's tarfile and the rules of WebDataset."""
    samples, passed_over = [], []
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        for info in tar:
            if not info.isreg():
                # Python takes the slash off.
                name = info.name + ("/" if info.isdir() else "")
                passed_over.append([name, KINDS.get(info.type, "Other")])
                continue
            base = info.name.rsplit("/")[-1]
            match = KEY.match(info.name)
            if SKIPPED.match(info.name) or base.startswith(".") or not match:
                kind = "Metadata" if SKIPPED.match(info.name) else "Hidden" if base.startswith(".") else "NoExtension"
                passed_over.append([info.name, kind])
                continue
            key, extension = match.group(1), match.group(2)
            if not samples or samples[-1]["key"] != key:
                samples.append({"key": key, "fields": []})
            data = content[info.offset_data : info.offset_data + info.size]
            assert data == tar.extractfile(info).read()
            samples[-1]["fields"].append({"extension": extension.lower(), "member": info.name,
                                          "offset": info.offset_data, "size": info.size, "crc32": zlib.crc32(data)})
    compare_with_webdataset(path, samples)
    return {"samples": samples, "passed_over": passed_over}


def compare_with_webdataset(path, samples):
    try:
        import webdataset
    except ImportError:
        return
    # Hidden files are what differs.
    visible = lambda name: not name.rsplit("/")[-1].startswith(".")
    with open(path, "rb") as stream:
        files = webdataset.tariterators.tar_file_expander([{"url": "", "stream": stream}], select_files=visible)
        found = list(webdataset.tariterators.group_by_keys(files))
    fields = lambda sample: [field["extension"] for field in sample["fields"]]
    theirs = [(sample["__key__"], [name for name in sample if not name.startswith("__")]) for sample in found]
    assert theirs == [(sample["key"], fields(sample)) for sample in samples], path
    print("webdataset agrees:", path.name)


# What the test of the crate writes: key and fields.
WRITTEN = [
    ("plain/000", [("jpg", data_of("plain/000.jpg")), ("cls", b"0"), ("seg.png", b"")]),
    ("plain/001", [("cls", b"1\n"), ("JPG", data_of("513"))]),
    ("n" * 96, [("jpg", b"a name of 100 bytes")]),
    ("n" * 97, [("jpg", b"a name of 101 bytes")]),
    (LONG_FOLDER + "n" * 60, [("jpg", b"a name with a prefix"), ("cls", b"2")]),
    ("g" * 200 + "/" + "o" * 200, [("txt", b"a name that ustar has no place for")]),
    ("\u65e5\u672c/\u8a9e", [("txt", "\u65e5\u672c\u8a9e".encode())]),
    ("\u65e5\u672c" * 20, [("txt", b"cut within a character")]),
]


def verify():
    path = HERE / "written.tar"
    files = [(f"{key}.{extension}", data) for key, fields in WRITTEN for extension, data in fields]
    with tarfile.open(path) as tar:
        found = [(info.name, tar.extractfile(info).read()) for info in tar]
        assert found == files, found
        assert all((info.mtime, info.uid, info.gid, info.mode) == (0, 0, 0, 0o644) for info in tar)
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    command = ["tar", "--quoting-style=literal", "-tf", path]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert listed.stdout.splitlines() == [name for name, _ in files] and not listed.stderr, listed
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-xf", path, "-C", folder], check=True, env=environment)
        assert all((Path(folder) / name).read_bytes() == data for name, data in files)
    expected_of(path)
    print("Python and GNU tar read what was written:", len(files), "files")


def make():
    HERE.mkdir(exist_ok=True)
    by_python(HERE / "python-ustar.tar", tarfile.USTAR_FORMAT, NAMES)
    by_python(HERE / "python-gnu.tar", tarfile.GNU_FORMAT, SHORT_NAMES[:3] + LONG_NAMES + NAMES[12:])
    by_python(HERE / "python-pax.tar", tarfile.PAX_FORMAT, SHORT_NAMES[:3] + LONG_NAMES + NAMES[12:])
    by_python(HERE / "python-pax-size.tar", tarfile.PAX_FORMAT, SHORT_NAMES[:3], pax_size=True)
    by_gnu_tar(HERE / "gnu-v7.tar", SHORT_NAMES, "--format=v7")
    by_gnu_tar(HERE / "gnu-oldgnu.tar", SHORT_NAMES[:2] + LONG_NAMES, "--format=oldgnu")
    by_gnu_tar(HERE / "gnu-ustar.tar", SHORT_NAMES[:2] + NAMES[12:], "--format=ustar")
    by_gnu_tar(HERE / "gnu.tar", SHORT_NAMES[:2] + NAMES[7:11] + LONG_NAMES)
    by_gnu_tar(HERE / "gnu-posix.tar", SHORT_NAMES[:2] + LONG_NAMES + NAMES[12:], "--format=posix")
    sparse(HERE / "gnu-sparse.tar")
    sparse(HERE / "gnu-sparse-posix.tar", "--format=posix")
    by_git(HERE / "git.tar")
    with open(HERE / "compressed.tar.gz", "wb") as file:
        file.write(gzip.compress((HERE / "git.tar").read_bytes(), mtime=0))
    try:
        by_webdataset(HERE / "webdataset.tar")
    except ImportError:
        print("webdataset is not installed: webdataset.tar stays as it is")
    refused = {"gnu-sparse.tar": "is a sparse file", "gnu-sparse-posix.tar": "is a sparse file",
               "compressed.tar.gz": "compressed with gzip"}
    paths = sorted(path for path in HERE.iterdir() if ".tar" in path.suffixes and path.name != "written.tar")
    expected = {path.name: {"error": refused[path.name]} if path.name in refused else expected_of(path)
                for path in paths}
    lines = (f"{json.dumps(name)}: {json.dumps(what)}" for name, what in expected.items())
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    verify() if sys.argv[1:] == ["verify"] else make()

"""What is read of a file while another process is between making room for rows and counting them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py

from traces.hdf5.blobs import DOCUMENTS_PER_CHUNK, BlobReader
from traces.hdf5.unfinished import UnfinishedFile

ROOT = Path(__file__).parents[3]
WRITER = f"""
import sys
import h5py
from traces.hdf5.blobs import BlobWriter, create_blobs

with h5py.File(sys.argv[1], "w", libver="latest") as file:
    create_blobs(file.create_group("programs"))
    file.swmr_mode = True
    writer = BlobWriter(file["programs"])
    for number in range({DOCUMENTS_PER_CHUNK}):
        writer.append(b"%d" % number)
    stop, resize = writer._stop, writer._stop.resize
    stop.resize({DOCUMENTS_PER_CHUNK} + 1, axis=0)
    file.flush()
    print("there is room for one more", flush=True)
    input()
    stop.resize({DOCUMENTS_PER_CHUNK}, axis=0)
    writer.append(b"last")
    print("it is counted", flush=True)
    input()
"""


def test_a_document_is_read_that_there_was_room_for_when_its_dataset_was_opened(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "blobs.h5")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline().startswith("there is room")
        with h5py.File(UnfinishedFile(tmp_path / "blobs.h5"), "r") as file:
            blobs = BlobReader(file["programs"], tmp_path / "blobs.h5")
            assert (len(blobs), blobs[-1]) == (DOCUMENTS_PER_CHUNK, b"127")
            writer.stdin.write("\n")
            writer.stdin.flush()
            assert writer.stdout.readline().startswith("it is counted")
            assert (len(blobs), blobs[-1], blobs[-2]) == (DOCUMENTS_PER_CHUNK + 1, b"last", b"127")
        writer.communicate("\n")

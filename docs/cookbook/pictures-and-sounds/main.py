"""A picture is drawn and changed; a text is said aloud, written down again, and becomes subtitles."""

import tempfile
from pathlib import Path

from portico import Client

with Client() as client, tempfile.TemporaryDirectory() as folder:
    night = client.images.draw("a lighthouse at night", "painter", size="256x128")[0]
    print("drawn:  ", night.media_type, night.data[1:4].decode(), night.save(Path(folder) / "night.png").name)
    day = client.images.edit(night.data, "the same by day", "painter", size="256x128")[0]
    print("changed:", day.media_type, "another picture:", day.data != night.data)

    note = Path(folder) / "note.wav"
    client.audio.speak_to(note, "We agreed on nine. The ships leave together.", "voice")
    print("spoken: ", note.read_bytes()[:4].decode(), "file")
    heard = client.audio.transcribe(note, "ear", times="segment")
    print("heard:  ", heard.text)
    print("times:  ", [(part.start, part.end) for part in heard.segments])
    print(client.audio.subtitles(note, "ear", format="vtt").strip())

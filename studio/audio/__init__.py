"""Soundtracks of finished clips: spoken lines, layers of sound, loudness, subtitles, muxing. No torch."""

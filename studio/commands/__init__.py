"""The composition root's commands: each builds its objects from configs and flags, and runs. Part of app.py's room."""

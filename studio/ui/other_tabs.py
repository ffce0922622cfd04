"""Tabs that other rooms fill: their html and their script, which asks its own routes."""

from collections.abc import Sequence

import gradio as gr

from studio.service.endpoints import Tab
from studio.ui.labels import Labels, html


def add_tabs(tabs: Sequence[Tab], labels: Labels) -> None:
    """Into the gr.Tabs that is being built; the title of each is the string tab.ID."""
    for tab in tabs:
        with labels.add(gr.Tab(id=tab.id), label=f"tab.{tab.id}"):
            html(f"<style>{tab.style}</style>{tab.body}", elem_id=f"{tab.id}-tab", js_on_load=tab.script)

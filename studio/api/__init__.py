"""The HTTP API: videos by the dialect that existing clients speak, on the page's server. No gradio, no torch."""

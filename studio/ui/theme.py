"""How the page looks: gradio's variables in our colours, our style sheet and the little script beside it.

System fonts only: nothing is fetched from anywhere.
"""

from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parent / "assets"
STYLES = (
    *("style.css", "parts.css", "drawer.css", "moves.css", "stage.css", "queue.css"),
    *("player.css", "series.css", "sound.css", "chat.css"),
)
FONTS = ("system-ui", "-apple-system", "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

ACCENT = gr.themes.Color(
    name="lagoon",
    c50="#eefafa", c100="#d3f1f2", c200="#a9e2e5", c300="#72cdd2", c400="#3bb0b8", c500="#1b929c",
    c600="#0f7580", c700="#115e67", c800="#144c54", c900="#153f46", c950="#07282e",
)  # fmt: skip
NEUTRAL = gr.themes.Color(
    name="graphite",
    c50="#f8f8f7", c100="#f1f1ef", c200="#e4e4e1", c300="#d0d0cc", c400="#9d9d99", c500="#74746f",
    c600="#565652", c700="#3f3f3c", c800="#272726", c900="#1b1b1b", c950="#121212",
)  # fmt: skip


# Values of gradio's theme variables; a name with _dark serves the dark page.
LOOK = dict(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color="#1d1d1b",
    body_text_color_dark="#ececea",
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
    background_fill_primary="white",
    background_fill_primary_dark="*neutral_900",
    background_fill_secondary="*neutral_50",
    background_fill_secondary_dark="*neutral_950",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_border_width="0px",
    block_shadow="none",
    block_padding="0px",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    block_title_text_weight="600",
    block_title_text_size="*text_sm",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_info_text_size="*text_xs",
    border_color_primary="*neutral_200",
    border_color_primary_dark="#30302e",
    input_background_fill="white",
    input_background_fill_dark="*neutral_900",
    input_border_width="1px",
    input_border_color="*neutral_200",
    input_border_color_dark="#373735",
    input_border_color_focus="*primary_500",
    input_border_color_focus_dark="*primary_400",
    input_shadow="none",
    input_shadow_focus="0 0 0 3px color-mix(in srgb, *primary_500 18%, transparent)",
    input_shadow_focus_dark="0 0 0 3px color-mix(in srgb, *primary_400 22%, transparent)",
    input_radius="10px",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_dark="*primary_500",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_hover_dark="*primary_400",
    button_primary_text_color="white",
    button_primary_text_color_dark="#04191c",
    button_secondary_background_fill="white",
    button_secondary_background_fill_dark="*neutral_800",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="*neutral_700",
    button_secondary_border_color="*neutral_200",
    button_secondary_border_color_dark="#373735",
    button_border_width="1px",
    button_large_radius="10px",
    button_small_radius="8px",
    slider_color="*primary_600",
    slider_color_dark="*primary_400",
)


def make_theme() -> gr.themes.Base:
    """Gradio's theme: flat panels, thin lines, one accent."""
    theme = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=NEUTRAL,
        radius_size=gr.themes.sizes.radius_md,
        font=FONTS,
        font_mono=MONO,
    )
    return theme.set(**LOOK)


def style_sheet() -> str:
    """Our css, after gradio's own."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)


def head() -> str:
    """What goes into the page's head: our script, inline."""
    return "".join(f"<script>{script(name)}</script>" for name in ("parts.js", "page.js", "player.js"))


def script(name: str) -> str:
    """One of our scripts, for `js_on_load` of a component: there `element` and `trigger` are that component's."""
    return (ASSETS / name).read_text(encoding="utf-8")

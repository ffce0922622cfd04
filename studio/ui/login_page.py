"""The login page: in both languages, light and dark, without gradio and without anything from elsewhere."""

import base64
import hashlib
from html import escape

from studio.service.login_routes import LoginView
from studio.ui.strings import LANGUAGES, say
from studio.ui.theme import ASSETS

STYLE = (ASSETS / "login.css").read_text(encoding="utf-8")
SCRIPT = (ASSETS / "login.js").read_text(encoding="utf-8")
ICON = "data:image/svg+xml;base64," + base64.b64encode((ASSETS / "favicon.svg").read_bytes()).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# What the page may do: its own style and script, its icon, its form; nothing else.
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; img-src data:; "
        "form-action 'self'; base-uri 'none'"
    )
}


def render(view: LoginView) -> str:
    """The whole page. A name once typed is kept, a password never."""
    language = view.language

    def words(key: str, **values: object) -> str:
        return escape(say(key, language, **values))

    told = words("login.wait", seconds=view.wait) if view.wait else ""
    joint = "" if language == "zh" else " "
    told = f"{words('login.wrong')}{joint}{told}".strip() if view.wrong else told
    alert = f'<p class="alert" role="alert">{told}</p>' if told else ""
    user = escape(view.user)
    focus = {bool(user): " autofocus", not user: ""}
    links = "".join(
        f'<a href="?language={key}" lang="{key}"{" aria-current=true" if key == language else ""}>{title}</a>'
        for key, title in LANGUAGES.items()
    )
    theme = words("app.theme")
    return f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{words("app.title")} · {words("login")}</title>
<link rel="icon" href="{ICON}">
<style>{STYLE}</style>
<script>{SCRIPT}</script>
</head>
<body>
<header><nav>{links}</nav><button type="button" id="theme" aria-label="{theme}" title="{theme}"></button></header>
<main>
<h1><img src="{ICON}" alt="">{words("app.title")}</h1>
<form method="post" action="login">
<input type="hidden" name="language" value="{language}">
<label for="user">{words("login.user")}</label>
<input id="user" name="user" value="{user}" autocomplete="username" autocapitalize="none" required{focus[False]}>
<label for="password">{words("login.password")}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{focus[True]}>
{alert}
<button type="submit">{words("login")}</button>
<p class="hint">{words("login.hint")}</p>
</form>
</main>
</body>
</html>
"""

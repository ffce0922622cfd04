"""Sentences for requests to the page's server and the HTTP API, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
HTTP_MESSAGES: dict[str, tuple[str, str]] = {
    "host_unknown": (
        "The page is not served under the name {host!r}. If that name is meant, start with --allowed-host NAME.",
        "本页面不以主机名 {host!r} 提供服务。如确需使用该名称，请在启动时加上 --allowed-host NAME。",
    ),
    "page_foreign": (
        "This request came from another web page, so it was refused. Open the page itself.",
        "该请求来自其他网页，已被拒绝。请直接打开本页面。",
    ),
    "key_unknown": ("The API key is not known here: use another one.", "API 密钥无效：请更换密钥。"),
    "key_needed": (
        "An API key is needed here: send the header Authorization: Bearer KEY. {program} key new NAME makes one.",
        "此处需要 API 密钥：请发送请求头 Authorization: Bearer KEY。创建密钥：{program} key new 名称",
    ),
    "key_scope": (
        "This API key does not open that: read keys only look, write keys also make, stop and delete videos.",
        "该 API 密钥无权执行此操作：read 密钥只能查看，write 密钥还可生成、停止和删除视频。",
    ),
    "key_rate": (
        "This API key is over its requests per minute: try again in {seconds} s, or make one with a higher --rate.",
        "该 API 密钥超出每分钟请求数：请在 {seconds} 秒后重试，或用更高的 --rate 创建密钥。",
    ),
    "login_needed": ("Log in first: open the page.", "请先登录：打开本页面。"),
    "not_served": ("There is nothing of that name here.", "此处没有该内容。"),
    "body_large": ("The request is too large: at most {limit_mb} MB are taken.", "请求过大：最多 {limit_mb} MB。"),
    "call_unknown": ("The request is none of this page's. Reload the page.", "该请求不属于本页面，请刷新页面。"),
    "uploads_busy": (
        "Too many files are being uploaded at once: try again in a moment.",
        "同时上传的文件过多：请稍后重试。",
    ),
    "upload_gone": (
        "The uploaded file is no longer here: choose it again.",
        "上传的文件已不存在：请重新选择。",
    ),
}

"""Sentences of what is done with results, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
RESULT_MESSAGES: dict[str, tuple[str, str]] = {
    "picture_outside": (
        "The first image has {mb:.1f} MB, so it is not kept inside the video: the limit is {limit:g} MB "
        "(picture_inside_mb in configs/studio.yaml). It stays in the queue's folder.",
        "首帧图片为 {mb:.1f} MB，超过 {limit:g} MB 的上限，因此不存入视频"
        "（configs/studio.yaml 中的 picture_inside_mb）。它仍保存在队列文件夹中。",
    ),
}

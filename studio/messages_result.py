"""Sentences of what is done with results, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
RESULT_MESSAGES: dict[str, tuple[str, str]] = {
    "picture_outside": (
        "The first image has {mb:.1f} MB, so it is not kept inside the video: the limit is {limit:g} MB "
        "(picture_inside_mb in configs/studio.yaml). It stays in the queue's folder.",
        "首帧图片为 {mb:.1f} MB，超过 {limit:g} MB 的上限，因此不存入视频"
        "（configs/studio.yaml 中的 picture_inside_mb）。它仍保存在队列文件夹中。",
    ),
    "again_model": (
        "The files of {model} are not those that the old video was made with: this one takes the steps that fit them "
        "here, and comes out different.",
        "{model} 的模型文件与制作原视频时的不同：将采用本机适合现有文件的步骤，结果会不一样。",
    ),
    "clip_before": (
        "The clip that this one goes on from has no video ({state}): make that one first, then resume this one.",
        "本片段所接续的片段没有视频（{state}）：请先完成那一段，再继续本片段。",
    ),
    "cut_needs_picture": (
        "{model} needs a first image, and a hard cut begins from text alone: extend without the cut, or with a model "
        "that makes videos from text.",
        "{model} 需要首帧图片，而硬切从文字开始：请不用硬切进行续写，或选用可由文字生成视频的模型。",
    ),
    "extend_model": (
        "{model} takes no first image, and no installed model does: {other} would. "
        "Get it with {program} download {other}.",
        "{model} 不接受首帧图片，且没有已安装的模型接受：可用 {other}，下载命令 {program} download {other}。",
    ),
    "join_few": (
        "Joining needs two finished clips that follow each other; here is {count}.",
        "拼接需要两个相继的已完成片段；这里只有 {count} 个。",
    ),
    "join_unlike": (
        "{file} cannot be joined without encoding it anew: it is {found}, the clip before it {wanted}.",
        "{file} 无法不重新编码就拼接：它是 {found}，前一片段是 {wanted}。",
    ),
    "part_empty": (
        "Frames {first} to {last} are no part of the {frames} frames there are.",
        "第 {first} 到 {last} 帧不在现有的 {frames} 帧之内。",
    ),
}

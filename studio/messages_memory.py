"""Sentences about memory, weights in int8 and attention kernels, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
MEMORY_MESSAGES: dict[str, tuple[str, str]] = {
    "no_plan": ("This video does not fit. {reason}", "该视频超出内存预算。{reason}"),
    "out_of_memory": (
        "Memory ran out though the plan was the smallest there is ({said}). "
        "Close other programs, or choose fewer frames or a smaller size.",
        "内存不足，且方案已缩到最小（{said}）。请关闭其他程序，或减少帧数、缩小尺寸。",
    ),
    "plan_smaller": (
        "Memory ran out; going on with less in it: {resident} blocks kept there and {slots} slots, "
        "{llm_slots} language model slots. Nothing done so far is lost.",
        "内存不足，改用更小的方案继续：常驻 {resident} 个块、{slots} 个槽位，语言模型 {llm_slots} 个槽位。"
        "已完成的部分不会丢失。",
    ),
    "decode_smaller": (
        "Memory ran out; decoding goes on with less of it, a little slower. Nothing done so far is lost.",
        "内存不足，改用占用更少内存的方式继续解码，速度略慢。已完成的部分不会丢失。",
    ),
    "memory_again": (
        "Memory was refused: cached memory is released and the step is tried once more.",
        "内存申请被拒绝：已释放缓存的内存，正在重试。",
    ),
    "int8_missing": (
        "{folder} has no int8 weights of its {part} yet: make them with {program} quantize MODEL, "
        "or leave --quantize out.",
        "{folder} 还没有 {part} 的 int8 权重：请执行 {program} quantize MODEL，或去掉 --quantize。",
    ),
    "int8_outdated": (
        "The int8 weights in {folder} were made from another {part} than lies there now: "
        "run {program} quantize MODEL again.",
        "{folder} 中的 int8 权重来自另一份 {part}，与现有文件不符：请重新执行 {program} quantize MODEL。",
    ),
    "int8_compute_missing": (
        "Computing in int8 needs bitsandbytes, which is not installed: pip install bitsandbytes, "
        "or use --quantize int8, which needs it no more once the weights are written.",
        "int8 计算需要 bitsandbytes，但未安装：请执行 pip install bitsandbytes，"
        "或改用 --quantize int8（权重生成后不再需要它）。",
    ),
    "attention_missing": (
        "The kernel of --attention {value} needs the package {value}, which is not installed: "
        "docs/install.md has its command, or leave --attention out.",
        "--attention {value} 需要软件包 {value}，但未安装：安装命令见 docs/install.md，或去掉 --attention。",
    ),
    "attention_needs_gpu": (
        "The kernel of --attention {value} needs an NVIDIA GPU, and this runs on {device}: leave --attention out.",
        "--attention {value} 需要 NVIDIA GPU，而当前设备是 {device}：请去掉 --attention。",
    ),
    "attention_refused": (
        "The kernel of --attention {value} does not run on {device}: update its package, or leave --attention out.",
        "--attention {value} 的内核无法在 {device} 上运行：请更新该软件包，或去掉 --attention。",
    ),
    "compute_speed": (
        "Computing in int8, as asked: {int8:.3g} TFLOP/s on this device, where the usual type has {usual:.3g}. "
        "It rounds more than --quantize int8, which is the better choice unless the first number is clearly larger.",
        "已按要求使用 int8 计算：本设备上为 {int8:.3g} TFLOP/s，常用精度为 {usual:.3g}。"
        "其舍入误差大于 --quantize int8；除非前一个数字明显更大，否则建议使用后者。",
    ),
}

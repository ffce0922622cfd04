"""Sentences about soundtracks, in both languages; messages.py has all others."""

# code: (English, Chinese); see messages.MESSAGES.
SOUND_MESSAGES: dict[str, tuple[str, str]] = {
    "sound_empty": (
        "There is nothing to hear: give a line with --say, a sound with --layer, or a scene with --layers-file.",
        "没有任何声音：请用 --say 给出台词，用 --layer 给出声音，或用 --layers-file 给出场景。",
    ),
    "draft_empty": (
        "Only lines of the speech model are there, which are heard once the sound is made: add a line of the robot or a sound.",
        "目前只有语音模型的台词，生成声音后才能听到：请添加机器人台词或音效。",
    ),
    "sound_many": (
        "There are {count} {what}, {limit} are allowed: leave some out.",
        "{what} 有 {count} 个，上限为 {limit}：请减少一些。",
    ),
    "sound_unknown": (
        "There is no sound or sound file {value!r}; the sounds are: {known}.",
        "没有名为 {value!r} 的声音或声音文件；可用的声音有：{known}。",
    ),
    "sound_file": (
        "{file} cannot be used as sound ({reason}): use a wav, mp3, flac, m4a or ogg file.",
        "{file} 无法作为声音使用（{reason}）：请使用 wav、mp3、flac、m4a 或 ogg 文件。",
    ),
    "sound_recipe": (
        "The soundtrack's recipe cannot be read: {reason}.",
        "无法读取配音方案：{reason}。",
    ),
    "clip_gone": (
        "This clip cannot get a sound: it is not finished, its file is gone, or it is a single frame.",
        "该视频无法添加声音：尚未完成、文件已不在，或只有一帧。",
    ),
    "sound_file_gone": (
        "The sound file {file} is not there any more: add it again.",
        "声音文件 {file} 已不在：请重新添加。",
    ),
    "sound_absent": (
        "{file} holds no soundtrack of this program: there is no recipe to start from.",
        "{file} 中没有本程序的配音：没有可沿用的方案。",
    ),
    "plan_speech_flags": (
        "Speech has no {flags}: leave it out beside the name of a model that speaks.",
        "语音没有 {flags}：使用语音模型名称时请去掉它。",
    ),
    "sound_flags": (
        "Sound is taken away, with nothing else at once: leave {flags} out beside --without-sound.",
        "--without-sound 只能与 --output 和 --overwrite 一起使用：请去掉 {flags}。",
    ),
    "line_empty": (
        "A line says nothing: write words after --say.",
        "有一句台词没有内容：请在 --say 后写上文字。",
    ),
    "line_long": (
        "A line has {length} characters, {limit} are allowed: shorten it by {over}, or make two of it.",
        "有一句台词为 {length} 个字符，上限为 {limit}：请删去 {over} 个，或分成两句。",
    ),
    "line_times": (
        "There are {lines} lines and {times} times: give --at SECONDS once for each --say.",
        "有 {lines} 句台词，却有 {times} 个时间：请为每个 --say 各给一个 --at 秒数。",
    ),
    "layer_syntax": (
        "The layer {value!r} cannot be read ({reason}): write NAME:START-END in seconds, then what you like of -12dB, a room, left, right, once, fade=0.5; for example rain:0-4:-12dB:hall.",
        "无法读取声音层 {value!r}（{reason}）：请写成 名称:开始-结束（秒），之后可加 -12dB、房间名、left、right、once、fade=0.5，例如 rain:0-4:-12dB:hall。",
    ),
    "layer_times": (
        "The sound {sound} goes from {start:g} to {end:g} s: its end must lie after its start.",
        "声音 {sound} 从 {start:g} 秒到 {end:g} 秒：结束必须晚于开始。",
    ),
    "scene_long": (
        "The scene has {length} characters, {limit} are allowed: shorten it.",
        "场景有 {length} 个字符，上限为 {limit}：请缩短。",
    ),
    "scene_empty": (
        "Nothing in the scene is known ({words}): write times and sounds, for example 0-2 s: under water, 2-4 s: splash.",
        "场景中没有认识的内容（{words}）：请写出时间和声音，例如 0-2秒：水下，2-4秒：水花声。",
    ),
    "voice_unknown": (
        "There is no voice {value!r}; the voices are: {known}.",
        "没有名为 {value!r} 的声音角色；可用的有：{known}。",
    ),
    "voice_name": (
        "{value!r} cannot be the name of a voice: letters, digits, - and _, up to 40, and no name of the robot's.",
        "{value!r} 不能用作声音名称：只能用字母、数字、- 和 _，最多 40 个字符，且不能与机器人声音同名。",
    ),
    "singing_missing": (
        "Rap and humming need networks that are not here ({missing}): put CosyVoice-300M-25Hz-Music of Step-Audio-TTS-3B into its folder.",
        "说唱和哼唱需要缺少的网络（{missing}）：请把 Step-Audio-TTS-3B 的 CosyVoice-300M-25Hz-Music 放入其文件夹。",
    ),
    "speech_failed": (
        "The speech model could not say this ({reason}): try another --seed, another voice or other words.",
        "语音模型无法说出这段文字（{reason}）：请换一个 --seed、换一个声音，或修改文字。",
    ),
    "style_unknown": (
        "The instruction {value!r} cannot be used: give up to {limit} words like happy, slow, sichuan or the model's own, without parentheses.",
        "无法使用朗读指令 {value!r}：请给出最多 {limit} 个词，如 happy、slow、sichuan 或模型自带的标签，不含括号。",
    ),
    "style_robot": (
        "The voice {voice} knows no instructions: leave --style out, or choose a voice of the speech model with --voice.",
        "声音 {voice} 不支持朗读指令：请去掉 --style，或用 --voice 选择语音模型的声音。",
    ),
    "robot_missing": (
        "The robot voice is not installed ({reason}): pip install espeakng-loader.",
        "机器人语音未安装（{reason}）：请执行 pip install espeakng-loader。",
    ),
    "robot_failed": (
        "The robot voice could not speak this line in {language} ({reason}): try another --language, or other words.",
        "机器人语音无法用 {language} 说出这句台词（{reason}）：请换一种 --language，或修改文字。",
    ),
    "clip_unreadable": (
        "{file} is no video that sound can be added to ({reason}): use an mp4.",
        "{file} 不是可以添加声音的视频（{reason}）：请使用 mp4 文件。",
    ),
    "clip_long": (
        "{file} is {seconds:.0f} s long, sound is made for up to {limit:.0f} s: cut it first.",
        "{file} 长 {seconds:.0f} 秒，最多可为 {limit:.0f} 秒的视频配音：请先剪短。",
    ),
    "chat_url": (
        "{value!r} is no address of a chat server: give --chat-url http://HOST:PORT of one that speaks OpenAI's protocol.",
        "{value!r} 不是聊天服务器地址：请用 --chat-url http://主机:端口 指定支持 OpenAI 协议的服务器。",
    ),
    "chat_busy": (
        "The chat server {where} is still writing another answer: ask again when it is there.",
        "聊天服务器 {where} 正在写另一个回答：请在其完成后再提问。",
    ),
    "chat_text": (
        "The text to ask with has {length} characters: give 1 to {limit}.",
        "提问文字有 {length} 个字符：应为 1 到 {limit} 个。",
    ),
    "chat_failed": (
        "The chat server {where} gave nothing that can be used ({reason}): check its address and its model.",
        "聊天服务器 {where} 没有给出可用的回答（{reason}）：请检查地址和模型。",
    ),
    # no failures, but to be known (events.Notice)
    "speech_cut": (
        "The line at {start:.2f} s was cut, for the model found no end: try another --seed or shorter sentences.",
        "{start:.2f} 秒处的台词被截断，因为模型没有结束：请换一个 --seed，或缩短句子。",
    ),
    "speech_plan_smaller": (
        "Memory ran out; the speech model goes on with {resident} layers kept on the device and {takes} texts at once. The speech stays the same.",
        "内存不足；语音模型改为常驻 {resident} 层、同时处理 {takes} 段文本继续。语音结果不变。",
    ),
    "scene_unknown": (
        "Not understood in the scene: {words}.",
        "场景中未能理解的内容：{words}。",
    ),
    "sound_cut": (
        "The sound goes on to {end:.2f} s and the picture ends at {picture:.2f} s: the rest is cut. The length of the sound (--length sound) keeps it.",
        "声音持续到 {end:.2f} 秒，而画面在 {picture:.2f} 秒结束：多余部分已剪去。选择与声音等长（--length sound）可保留。",
    ),
    "sound_beyond": (
        "The sound goes on to {end:.2f} s, after the picture's end at {picture:.2f} s: players show the last frame meanwhile.",
        "声音持续到 {end:.2f} 秒，超过画面结束的 {picture:.2f} 秒：播放器会停在最后一帧。",
    ),
    "sound_padded": (
        "The last sound ends at {end:.2f} s and the picture at {picture:.2f} s: silence in between.",
        "最后一个声音在 {end:.2f} 秒结束，画面在 {picture:.2f} 秒结束：其间为静音。",
    ),
    "sound_short": (
        "The sound ends at {end:.2f} s, before the picture's end at {picture:.2f} s.",
        "声音在 {end:.2f} 秒结束，早于画面结束的 {picture:.2f} 秒。",
    ),
    "line_overlap": (
        "A line begins at {start:.2f} s while the one before it is spoken until {end:.2f} s: move it, or shorten the other.",
        "有一句台词从 {start:.2f} 秒开始，而前一句到 {end:.2f} 秒才结束：请移动它，或缩短前一句。",
    ),
    "sound_quiet": (
        "The sound has {reached:.1f} LUFS instead of {target:.0f}: more would need over {most:.0f} dB of gain, or peaks over -1 dB.",
        "声音响度为 {reached:.1f} LUFS，而非 {target:.0f}：再提高需要超过 {most:.0f} dB 的增益，或峰值超过 -1 dB。",
    ),
    "sound_replaced": (
        "The clip had a sound of its own, which is not kept: give the clip itself as a layer to keep it.",
        "该视频原有的声音不会保留：如需保留，请把该视频本身作为一个声音层。",
    ),
}

# phase: (English, Chinese)
SOUND_PHASES: dict[str, tuple[str, str]] = {
    "speak": ("Speaking", "合成语音"),
    "speak_codes": ("Speaking: codes", "合成语音：编码"),
    "speak_mel": ("Speaking: spectrum", "合成语音：频谱"),
    "speak_wave": ("Speaking: waveform", "合成语音：波形"),
}

"""Where a component's files lie in a public checkpoint folder. Needs no torch: configs and downloads use it too."""

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class ComponentLayout:
    """A component's place in a checkpoint folder.

    weights: names of an unsharded file, best first; a file of the first name may be sharded through its index.
    prefix: of the keys that belong to the network; others in the file are left alone ("": every key belongs).
    tokenizer: files beside the weights that decide token ids, from the checkpoint folder on.
    config: the file of the architecture, a cosyvoice.yaml where it is no json.
    """

    folder: str
    weights: tuple[str, ...]
    config_required: bool = True
    prefix: str = ""
    tokenizer: tuple[str, ...] = ()
    config: str = "config.json"

    @property
    def tokenizer_folder(self) -> PurePosixPath:
        """The folder of the tokenizer's files, from the checkpoint folder on; for components that have one."""
        return PurePosixPath(self.tokenizer[0]).parent


# The same in stepfun-ai/stepvideo-t2v, stepvideo-t2v-turbo and stepvideo-ti2v.
LAYOUT = {
    "transformer": ComponentLayout("transformer", ("diffusion_pytorch_model.safetensors",)),
    "step_llm": ComponentLayout("step_llm", ("model.safetensors",), tokenizer=("step_llm/step1_chat_tokenizer.model",)),
    # The public .bin is a whole CN-CLIP: image tower and projections beside the text tower `bert.*`.
    "clip": ComponentLayout(
        "hunyuan_clip/clip_text_encoder",
        ("model.safetensors", "pytorch_model.bin"),
        prefix="bert.",
        tokenizer=("hunyuan_clip/tokenizer/vocab.txt", "hunyuan_clip/tokenizer/tokenizer_config.json"),
    ),
    # The public VAE has no config: its sizes are the defaults of VAEParams. vae.safetensors beside it is version 1.
    "vae": ComponentLayout("vae", ("vae_v2.safetensors",), config_required=False),
    # stepfun-ai/Step-Audio-TTS-3B: the language model lies in the folder itself, beside two pairs of flow and vocoder.
    "step_audio_llm": ComponentLayout("", ("model.safetensors",), tokenizer=("tokenizer.model",)),
    "flow": ComponentLayout("CosyVoice-300M-25Hz", ("flow.pt",), config="cosyvoice.yaml"),
    "hift": ComponentLayout("CosyVoice-300M-25Hz", ("hift.pt",), config="cosyvoice.yaml"),
    "flow_music": ComponentLayout("CosyVoice-300M-25Hz-Music", ("flow.pt",), config="cosyvoice.yaml"),  # rap, humming
    "hift_music": ComponentLayout("CosyVoice-300M-25Hz-Music", ("hift.pt",), config="cosyvoice.yaml"),
}
SPEECH = ("step_audio_llm", "flow", "hift")  # of the model that speaks
COMPONENTS = ("transformer", "step_llm", "clip", "vae")  # of a model that makes video

"""Stage 3: the autoencoder, FLUX's latent layout (8x, 16 channels) at a tiny size.

The class is diffusers' own `AutoencoderDC`, chosen because it enlarges by pixel shuffle: at this budget the stock
`AutoencoderKL` and `AutoencoderTiny`, which enlarge by nearest neighbour, cannot place detail inside an 8x8 cell.
Training starts from patch PCA (`autoencoder_start`) and adds what a linear code cannot do, with pixel, gradient,
perceptual and, later, adversarial terms, and noise on the latents so that the decoder forgives a diffusion model's
small errors.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.mini.autoencoder_start import start_from_components
from recipes.mini.checkpoint import load_state, save_state
from recipes.mini.meter import Meter
from recipes.mini.portraits import load_portraits
from recipes.mini.recipe import Recipe, WorkFolder, autocast
from topcoat.features import FeatureNet
from topcoat.files import write_json
from topcoat.training.adversarial import DiscriminatorConfig, PatchDiscriminator, discriminator_loss, generator_loss
from topcoat.training.optim import Ema, ema_decay

CROP_PX = 64
BATCH_IMAGES = 32
HELD_OUT = 500
CHECKPOINT_SECONDS = 120
EMA_HALFLIFE_IMAGES = 20_000
START_IMAGES = 2_000
PEAK_RATE = 1e-3
ADVERSARIAL_WEIGHT = 0.002
ADVERSARIAL_WARM_UP_IMAGES = 20_000


def build_autoencoder(recipe: Recipe) -> Any:
    """The untrained `AutoencoderDC`; typed Any, as are its kin below, because diffusers' own types are too wide."""
    return AutoencoderDC(
        in_channels=3,
        latent_channels=16,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=recipe.autoencoder_encoder_channels,
        decoder_block_out_channels=recipe.autoencoder_decoder_channels,
        encoder_layers_per_block=(0, 1, 1, 1),
        decoder_layers_per_block=recipe.autoencoder_decoder_blocks,
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        encoder_out_shortcut=False,
    )


def train_autoencoder(recipe: Recipe, work: WorkFolder) -> None:
    """Train, print the held-out figures and save a diffusers folder with scaling and shift set from data."""
    images = load_portraits(recipe, work).images
    train, held_out = images[:-HELD_OUT], images[-HELD_OUT:]
    torch.manual_seed(31)
    autoencoder = build_autoencoder(recipe)
    start_from_components(autoencoder, _to_model(train[:START_IMAGES]))
    print(f"patch PCA start: {_psnr(autoencoder, held_out):.2f} dB")
    autoencoder.to(work.device)
    net = FeatureNet.load(work.features / "loss").to(work.device)
    discriminator = PatchDiscriminator(DiscriminatorConfig()).to(work.device)
    ema = Ema(autoencoder)
    modules: dict[str, nn.Module] = {"net": autoencoder, "average": ema.network, "discriminator": discriminator}
    optimizers: dict[str, torch.optim.Optimizer] = {
        "optimizer": torch.optim.AdamW(autoencoder.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0),
        "discriminator": torch.optim.AdamW(discriminator.parameters(), lr=PEAK_RATE / 4, betas=(0.5, 0.98)),
    }
    seen = int(load_state(work.autoencoder, modules, optimizers).get("images", 0))
    adversarial_after = recipe.autoencoder_adversarial_after * recipe.autoencoder_images
    saved = time.monotonic()
    with Meter("autoencoder", recipe.autoencoder_images, seen) as meter:
        while seen < recipe.autoencoder_images:
            generator = torch.Generator().manual_seed(37 * 1_000_003 + seen)
            batch = _crops(train, generator).to(work.device)
            rate = min(1.0, (seen + 1) / 3_000) * (1 - seen / recipe.autoencoder_images) ** 0.5
            for name, optimizer in optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = PEAK_RATE * rate * (1.0 if name == "optimizer" else 0.25)
            with autocast(work.device):
                loss, decoded = _loss(autoencoder, net, batch, recipe.latent_noise, generator)
            adversarial = min(1.0, (seen - adversarial_after) / ADVERSARIAL_WARM_UP_IMAGES)
            if adversarial > 0:
                _train_discriminator(discriminator, optimizers["discriminator"], batch, decoded.detach())
                fake = discriminator((decoded / 2 + 0.5,)).scores
                loss = loss + ADVERSARIAL_WEIGHT * adversarial * generator_loss(fake, "hinge")
            optimizers["optimizer"].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 0.5)
            optimizers["optimizer"].step()
            seen += len(batch)
            ema.update(autoencoder, ema_decay(seen, len(batch), EMA_HALFLIFE_IMAGES))
            meter.update(seen, f"loss {loss.item():.4f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or seen >= recipe.autoencoder_images:
                save_state(work.autoencoder, modules, optimizers, {"images": seen})
                saved = time.monotonic()
    autoencoder.cpu().load_state_dict(ema.network.state_dict())
    _finish(autoencoder, train, held_out, work.autoencoder, seen)


def _train_discriminator(
    discriminator: PatchDiscriminator, optimizer: torch.optim.Optimizer, real: Tensor, decoded: Tensor
) -> None:
    scores = [discriminator((images / 2 + 0.5,)).scores for images in (real, decoded)]
    optimizer.zero_grad()
    discriminator_loss(scores[0], scores[1], "hinge").backward()
    optimizer.step()


def load_autoencoder(work: WorkFolder) -> Any:
    """The trained autoencoder on the work folder's device, frozen."""
    autoencoder: Any = AutoencoderDC.from_pretrained(work.autoencoder)
    return autoencoder.eval().requires_grad_(False).to(work.device)


@torch.no_grad()
def encode(autoencoder: Any, images: Tensor) -> Tensor:
    """uint8 images (N, 3, H, W) -> diffusion latents (N, 16, H/8, W/8) of about unit variance, on the CPU."""
    config = autoencoder.config
    latents = [autoencoder.encode(_to_model(batch).to(autoencoder.device)).latent.cpu() for batch in images.split(64)]
    return (torch.cat(latents) - config.shift_factor) * config.scaling_factor


@torch.no_grad()
def decode(autoencoder: Any, latents: Tensor) -> Tensor:
    """Diffusion latents -> images (N, 3, H, W) in [0, 1], on the CPU."""
    config = autoencoder.config
    unscaled = latents / config.scaling_factor + config.shift_factor
    images = [autoencoder.decode(batch.to(autoencoder.device)).sample.cpu() for batch in unscaled.split(64)]
    return (torch.cat(images) / 2 + 0.5).clamp(0, 1)


def _to_model(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def _crops(images: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.randint(len(images), (BATCH_IMAGES,), generator=generator)
    # Crops start on the 8 px grid: the patch code is not shift-invariant and is never used off the grid.
    cells = (images.shape[-1] - CROP_PX) // 8 + 1
    corners = torch.randint(cells, (BATCH_IMAGES, 2), generator=generator) * 8
    crops = [
        images[index, :, top : top + CROP_PX, left : left + CROP_PX]
        for index, (top, left) in zip(chosen.tolist(), corners.tolist(), strict=True)
    ]
    mirrored = torch.rand(BATCH_IMAGES, generator=generator) < 0.5
    return _to_model(torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, mirrored, strict=True)]))


def _loss(
    autoencoder: Any, net: FeatureNet, images: Tensor, latent_noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The loss without its adversarial term, and the decoded images (N, 3, H, W) in about [-1, 1]."""
    latents = autoencoder.encode(images).latent.float()
    noisy = latents + torch.randn(latents.shape, generator=generator).to(images.device) * latent_noise
    decoded = autoencoder.decode(noisy).sample.float()
    pixels = F.smooth_l1_loss(decoded, images, beta=0.05)
    gradients = F.l1_loss(decoded.diff(dim=-1), images.diff(dim=-1)) + F.l1_loss(
        decoded.diff(dim=-2), images.diff(dim=-2)
    )
    seen, wanted = net(decoded / 2 + 0.5).stages[:3], net(images / 2 + 0.5).stages[:3]
    perceptual = sum(
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(dim=1).mean()
        for a, b in zip(seen, wanted, strict=True)
    )
    # Keeps the code near the PCA start's scale: without it latents drift to where noise costs nothing.
    anchor = (latents.mean(dim=(0, 2, 3)).square() + (latents.square().mean() - 1).square()).mean()
    return pixels + 0.25 * gradients + 0.1 * perceptual + 0.05 * anchor, decoded


@torch.no_grad()
def _reconstructed(autoencoder: Any, images: Tensor) -> Tensor:
    out = [autoencoder.decode(autoencoder.encode(_to_model(batch)).latent).sample for batch in images.split(64)]
    return torch.cat(out).clamp(-1, 1)


def _psnr(autoencoder: Any, images: Tensor) -> float:
    error = (_reconstructed(autoencoder, images) - _to_model(images)).square().mean(dim=(1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def _gradient_share(autoencoder: Any, images: Tensor) -> float:
    def energy(values: Tensor) -> Tensor:
        return values.diff(dim=-1).abs().mean() + values.diff(dim=-2).abs().mean()

    return float(energy(_reconstructed(autoencoder, images)) / energy(_to_model(images)))


def _finish(autoencoder: Any, train: Tensor, held_out: Tensor, folder: Path, seen: int) -> None:
    with torch.no_grad():
        latents = torch.cat([autoencoder.encode(_to_model(b)).latent for b in train[:START_IMAGES].split(64)])
    # FluxPipeline reads these four from the config of any VAE class; `block_out_channels` tells it the 8x.
    autoencoder.register_to_config(
        scaling_factor=round(float(1 / latents.std()), 4),
        shift_factor=round(float(latents.mean()), 4),
        block_out_channels=list(autoencoder.config.decoder_block_out_channels),
    )
    autoencoder.save_pretrained(folder)
    figures = {
        "images_seen": seen,
        "held_out": len(held_out),
        "psnr_db": _psnr(autoencoder, held_out),
        "gradient_share": _gradient_share(autoencoder, held_out),
    }
    write_json(folder / "figures.json", figures)
    print(f"autoencoder: {figures['psnr_db']:.2f} dB, {figures['gradient_share']:.0%} of the renders' gradients")

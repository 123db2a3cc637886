"""A run that starts from temporal weights of an earlier one instead of the identity: fine-tuning."""

from pipelines.training.config import TrainConfig
from pipelines.training.record import RunRefusedError


def check_initial(config: TrainConfig) -> None:
    """Refuse weights that are no start for this run, before any worker is there.

    Raises:
        RunRefusedError: No weights there, or those of another backbone, schedule or other layers.
    """
    if config.initial_weights is None:
        return
    # Here, not above: the driver of other runs starts seconds sooner without torch.
    from stunet.backbone import backbone_name, backbone_schedule, find_backbone, weights_digest
    from stunet.inflate import InflationConfig
    from stunet.weights import WeightsError, check_backbone, check_inflation, check_schedule, find, read_metadata

    try:
        folder = find(config.initial_weights)
        metadata, backbone = read_metadata(folder), find_backbone(config.backbone)
        check_backbone(metadata, folder, weights_digest(backbone), backbone_name(backbone))
        check_schedule(metadata, folder, backbone_schedule(backbone))
        check_inflation(metadata, folder, InflationConfig(**config.inflation.model_dump()))
    except WeightsError as error:
        raise RunRefusedError(f"initial_weights: {error}") from error

"""The settings of the drift monitor: environment variables HEART_DRIFT_... or a file .env."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from heart.drift.baseline import MIN_CELL_COUNT
from heart.settings import COMMON, Variables


class DriftSettings(Variables):
    """Read once, in `main`; other functions get it as an argument."""

    model_config = SettingsConfigDict(**COMMON, env_prefix="HEART_DRIFT_")

    window: int | None = Field(
        None,
        ge=MIN_CELL_COUNT,
        description="Maximum number of last patients in a check. If not set, the longest window of "
        "the version's drift baseline. Longer windows are left out, but never the shortest.",
    )
    interval_seconds: float = Field(
        10, gt=0, le=86400, description="Seconds between two drift checks."
    )
    model_version: str | None = Field(
        None,
        pattern="^[0-9]+$",
        description="Check the patients of this version. If not set, those of the champion. The "
        "service knows the champion and the version before it.",
    )

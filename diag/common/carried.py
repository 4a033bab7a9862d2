"""What goes on in another process after a kill: of each object the attributes that say where a run has got to."""

from __future__ import annotations

from typing import Any, ClassVar


class Carried:
    """Its state is the attributes that `CARRIED` names; all else is made anew from what the run was asked to do."""

    CARRIED: ClassVar[tuple[str, ...]] = ()

    def carried(self) -> dict[str, Any]:
        """The state by name, as it is now; later changes may show in it."""
        return {name: getattr(self, name) for name in self.CARRIED}

    def take_up(self, carried: dict[str, Any]) -> None:
        """Go on from what `carried` gave in another process."""
        for name in self.CARRIED:
            setattr(self, name, carried[name])

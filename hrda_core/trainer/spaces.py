"""The classes of a recipe's network: what the recipe says, else what its labelled data declare."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from hrda_core.data.datasets.layouts import FOLDERS, find_layout
from hrda_core.errors import RecipeError
from hrda_core.label_files import defines_classes, label_space_values, read_label_space
from hrda_core.label_matching import ids_by_name, same_names, space_difference
from hrda_core.labels import CITYSCAPES19, IdTable, LabelSpace
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import NO_SOURCE, LabelledConfig

__all__ = ["recipe_space", "with_space"]

Labelled = TypeVar("Labelled", bound=LabelledConfig)


def recipe_space(recipe: Recipe) -> LabelSpace:
    """Return the classes of the network.

    They are `recipe.label_space`; else those that the first of source and validation declares: by a label space file
    that names classes, or by the layout of a public data set; else the 19 of Cityscapes.

    Raises:
        LabelSpaceError: a label space file is bad.
    """
    return _found(recipe)[0]


def with_space(recipe: Recipe) -> Recipe:
    """Write classes and ids into the recipe itself, so that a run can be read where the label space files are not.

    Where nothing declares classes the recipe stays as it is.

    Raises:
        LabelSpaceError: a label space file is bad.
        RecipeError: source and validation declare different classes.
    """
    space, ids = _found(recipe)
    labelled = [("source", part) for part in recipe.sources] + [("validation", one) for one in recipe.validation]
    for kind, config in labelled:
        _check_same(recipe, space, f"{kind} '{config.name}'", _declared(config, space))
    if recipe.label_space is None and not any(config.label_space for _, config in labelled):
        return recipe
    sources = [_with_ids(part, space, ids) for part in recipe.sources]
    return replace(
        recipe,
        label_space=label_space_values(space, ids),
        source=sources if isinstance(recipe.source, list) else sources[0],
        validation=[_with_ids(config, space, ids) for config in recipe.validation],
    )


def _found(recipe: Recipe) -> tuple[LabelSpace, IdTable | None]:
    """The classes, and the native ids of the recipe's own label space."""
    if recipe.label_space is not None:
        return read_label_space(recipe.label_space)
    for config in (*recipe.sources, *recipe.validation):
        if config.label_space is None or defines_classes(config.label_space):
            declared = _declared(config, CITYSCAPES19)
            if declared is not None:
                return declared, None
    return CITYSCAPES19, None


def _declared(config: LabelledConfig, space: LabelSpace) -> LabelSpace | None:
    """What labelled data say of their classes; a file of ids alone leads to `space`."""
    if config.label_space is not None:
        return read_label_space(config.label_space, space)[0]
    return None if config.layout in (FOLDERS, NO_SOURCE) else CITYSCAPES19


def _check_same(recipe: Recipe, space: LabelSpace, what: str, declared: LabelSpace | None) -> None:
    if declared is None:
        return
    if same_names(declared, space):
        named = {declared.classes[thing] for thing in declared.things}
        if recipe.label_space is None and named and named != {space.classes[thing] for thing in space.things}:
            raise RecipeError(
                f"{what} names other things than the data before it, among the same classes; write classes and things "
                f"once, in a label_space file of the recipe"
            )
        return
    whose = "the recipe's label_space" if recipe.label_space is not None else "the label space of the data before it"
    raise RecipeError(
        f"{what} has the {len(declared)} classes of '{declared.name}', but {whose} is '{space.name}' of {len(space)} "
        f"(it {space_difference(declared, space)}); a network has one label space: give each a label_space file whose "
        f"ids lead to the same classes"
    )


def _with_ids(config: Labelled, space: LabelSpace, ids: IdTable | None) -> Labelled:
    """The same data with the classes, mask colours and ids of its label files written out."""
    if config.label_space is not None:
        found, table = read_label_space(config.label_space, space)
    elif config.layout == FOLDERS and (ids is not None or config.label_colors):
        found, table = space, ids
    elif config.layout not in (FOLDERS, NO_SOURCE) and space.classes != CITYSCAPES19.classes:
        # The same classes in another order: the layout's own table gives ids in the order of Cityscapes.
        found, table = CITYSCAPES19, find_layout(config.layout).ids
    else:
        return config
    colours = dict(zip(found.classes, found.palette, strict=True))
    own = replace(space, palette=tuple(colours[name] for name in space.classes), things=())
    return replace(config, label_space=label_space_values(own, ids_by_name(found, table, space)))

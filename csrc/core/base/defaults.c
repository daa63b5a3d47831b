/*
 * defaults.c - a cd_config with every limit and option at its default, as the rows of limits.def
 * and options.def have it.
 *
 * It is one constant object, so that a default is read in the same way by the bridge, which tells
 * Python, by a new server's config, and by the two lists that take NULL for "the default". It lies
 * on the lowest floor because those lists are parsed on three different ones.
 */
#include "cdaphne.h"

const cd_config cd_config_default = {
    .limits =
        {
#define CD_TIME(name, value, ...) .name = value,
#define CD_SIZE(name, value, ...) .name = value,
#include "limits.def"
        },
#define CD_FLAG(name, value, ...) .name = value,
#define CD_TEXT(name, value, ...) .name = value,
#include "options.def"
    .access_fd = -1,
};

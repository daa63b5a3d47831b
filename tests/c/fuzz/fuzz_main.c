/*
 * fuzz_main.c - gives a fuzz target the files named on the command line, one after the other.
 *
 * What libFuzzer's own main does with arguments, for a build without clang: `make test` replays the
 * corpus and the inputs that once broke something through gcc's ASan and UBSan. It finds nothing
 * new; `make fuzz` does. Each input is copied into a block of its exact size, so that reading one
 * byte too far is seen. With FUZZ_VERBOSE in the environment every name is printed before its turn,
 * so the last one is the culprit.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The whole file in a block of its size; NULL: it cannot be read. */
static uint8_t *read_file(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    if (file == NULL)
        return NULL;
    uint8_t *data = NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        long end = ftell(file);
        rewind(file);
        *size = end > 0 ? (size_t)end : 0;
        data = malloc(*size ? *size : 1);
        if (data != NULL && fread(data, 1, *size, file) != *size) {
            free(data);
            data = NULL;
        }
    }
    fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        size_t size = 0;
        uint8_t *data = read_file(argv[i], &size);
        if (data == NULL) {
            fprintf(stderr, "cannot read %s\n", argv[i]);
            return 2;
        }
        if (getenv("FUZZ_VERBOSE") != NULL)
            fprintf(stderr, "%s\n", argv[i]);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}

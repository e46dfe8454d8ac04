/* TEST */
/* unit_rope.c - the table of rotation angles against libm. */
#include <math.h>

#include "model/rope.h"
#include "test.h"

static void close_to_libm(int context, int E, double base)
{
    const int half = E / 2;
    float *table = malloc((size_t)context * (size_t)E * sizeof *table);
    double worst = 0;

    rope_table_fill(table, context, E, &(struct model_rope){.base = base});
    for (int pos = 0; pos < context; pos++) {
        for (int i = 0; i < half; i++) {
            const double angle = pos * pow(base, -2.0 * i / E);
            const float *entry = table + ((size_t)pos * (size_t)half + (size_t)i) * 2;

            worst = fmax(worst, fabs((double)entry[0] - cos(angle)));
            worst = fmax(worst, fabs((double)entry[1] - sin(angle)));
        }
    }
    fprintf(stderr, "context %6d E %3d base %8.0f: largest error %.2e\n", context, E, base, worst);
    /* Half a unit in the last place of a float below 1 is 2^-25 = 2.98e-8. */
    CHECK(worst < 0x1p-25 * 1.001);
    free(table);
}

int main(void)
{
    float first[4 * 16];

    close_to_libm(8192, 64, 100000.0);
    close_to_libm(1024, 16, 10000.0);
    close_to_libm(4096, 48, 500000.0); /* E/2 is no power of two */
    close_to_libm(131072, 64, 8000000.0);
    close_to_libm(2000000, 16, 10000.0);
    close_to_libm(64, 256, 1.0);

    rope_table_fill(first, 4, 16, &(struct model_rope){.base = 10000.0});
    for (int i = 0; i < 8; i++) { /* position 0 turns nothing */
        CHECK(first[2 * i] == 1.0f);
        CHECK(first[2 * i + 1] == 0.0f);
    }
    TEST_END();
}

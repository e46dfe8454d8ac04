/*
 * emulator.cpp - fibers, blocks, warps and the matrix instruction for emulator.h.
 *
 * One fiber a thread of the block, each with a stack of its own; a switch saves what the ABI of
 * x86-64 wants saved, elsewhere swapcontext does.  Not for use by several threads at a time.
 */
#include <stdio.h>
#include <stdlib.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "tests/emulator/emulator.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

#if defined(__x86_64__)
/* Keep what a call must keep on the stack, the stack in *save_sp; go on where `sp` says. */
extern "C" void emulator_switch(void **save_sp, void *sp);
asm(".text\n"
    ".globl emulator_switch\n"
    ".hidden emulator_switch\n"
    "emulator_switch:\n"
    "  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rsp, (%rdi)\n"
    "  mov %rsi, %rsp\n"
    "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
    "  ret\n");
#endif

namespace {
enum { MAX_THREADS = 1024, STACK_BYTES = 128 << 10, SHARED_BYTES = 227 << 10, MAX_COPIES = 256 };

struct copy {
    void *to;
    const void *from;
    bool real;
    int group;
};

struct fiber {
    void *stack; /* owned */
#if defined(__x86_64__)
    void *sp; /* where it stands */
#else
    ucontext_t context;
#endif
    void *fake_stack; /* AddressSanitizer's */
    dim3 at;
    bool done;
    const unsigned *until; /* it waits while *until is until_not */
    unsigned until_not;
    struct copy copies[MAX_COPIES];
    int n_copies, group;
};

struct warp {
    unsigned char brought[2]
                         [32 * 64]; /* in turn, so that nobody overwrites what others still read */
    unsigned meeting;
    int n_came;
};

struct fiber fibers[MAX_THREADS];
struct fiber scheduler;
struct warp warps[MAX_THREADS / 32];
int n_threads, n_at_barrier;
unsigned running; /* fiber */
unsigned barrier; /* changes when all have come */
unsigned char *shared;
void (*body)(void *);
void *body_arg;
uint64_t random_state = 88172645463325252u;

unsigned draw(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 20) % n;
}

[[noreturn]] void wrong(const char *what)
{
    fprintf(stderr, "emulator: %s: block %u %u %u, thread %u of %d\n", what, blockIdx.x, blockIdx.y,
            blockIdx.z, running, n_threads);
    abort();
}

/* ---- switching -------------------------------------------------------------------------------- */

void switch_to(struct fiber *from, struct fiber *to)
{
#if defined(__SANITIZE_ADDRESS__)
    static const void *main_stack;
    static size_t main_bytes;
    const bool back = to == &scheduler;

    __sanitizer_start_switch_fiber(from->done ? nullptr : &from->fake_stack,
                                   back ? main_stack : to->stack,
                                   back ? main_bytes : (size_t)STACK_BYTES);
#endif
#if defined(__x86_64__)
    emulator_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    const void *old;
    size_t old_bytes;

    __sanitizer_finish_switch_fiber(from->fake_stack, &old, &old_bytes);
    if (from != &scheduler) {
        main_stack = old;
        main_bytes = old_bytes;
    }
#endif
}

void begin_fiber(void)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    body(body_arg);
    fibers[running].done = true;
    switch_to(&fibers[running], &scheduler);
    abort();
}

void make_fiber(struct fiber *f, int i)
{
    if (f->stack == nullptr)
        f->stack = malloc(STACK_BYTES);
    if (f->stack == nullptr)
        wrong("no memory");
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f->stack, STACK_BYTES); /* the last fiber never left its frames */
#endif
#if defined(__x86_64__)
    void **sp = (void **)(((uintptr_t)f->stack + STACK_BYTES) / 16 * 16) - 1;

    *sp = nullptr;
    *--sp = (void *)begin_fiber;
    for (int reg = 0; reg < 6; reg++)
        *--sp = nullptr;
    f->sp = sp;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->context, begin_fiber, 0);
#endif
    const unsigned at = (unsigned)i;
    f->at = dim3(at % blockDim.x, at / blockDim.x % blockDim.y, at / blockDim.x / blockDim.y);
    f->done = false;
    f->until = nullptr;
    f->n_copies = f->group = 0;
}

/* Give way until *until is no longer until_not. */
void wait_for(const unsigned *until, unsigned until_not)
{
    struct fiber *f = &fibers[running];

    f->until = until;
    f->until_not = until_not;
    switch_to(f, &scheduler);
    f->until = nullptr;
}

/* ---- a block ------------------------------------------------------------------------------------ */

/* All threads from beginning to end, in rounds of a random order. */
void run_block(void)
{
    int n_done = 0;

    memset(shared, 0xff, SHARED_BYTES);
    memset(warps, 0, sizeof warps);
    n_at_barrier = 0;
    for (int i = 0; i < n_threads; i++)
        make_fiber(&fibers[i], i);
    while (n_done < n_threads) {
        const int first = (int)draw((unsigned)n_threads), step = draw(2) ? 1 : n_threads - 1;
        bool moved = false;

        for (int k = 0; k < n_threads; k++) {
            const int i = (int)(((int64_t)first + (int64_t)k * step) % n_threads);
            struct fiber *f = &fibers[i];

            if (f->done || (f->until != nullptr && *f->until == f->until_not))
                continue;
            running = (unsigned)i;
            threadIdx = f->at;
            switch_to(&scheduler, f);
            moved = true;
            n_done += f->done;
        }
        if (!moved)
            wrong("threads wait for others that do not come");
    }
}
} // namespace

void emulator_launch(dim3 grid, dim3 block, size_t shared_bytes, void (*launched)(void *),
                     void *arg)
{
    const unsigned n_blocks = grid.x * grid.y * grid.z;

    n_threads = (int)(block.x * block.y * block.z);
    if (n_threads <= 0 || n_threads > MAX_THREADS || n_threads % 32 != 0 || n_blocks == 0 ||
        grid.y > 65535 || grid.z > 65535 || shared_bytes > SHARED_BYTES)
        wrong("a launch that CUDA would refuse");
    if (shared == nullptr)
        shared = (unsigned char *)aligned_alloc(128, SHARED_BYTES);
    gridDim = grid;
    blockDim = block;
    body = launched;
    body_arg = arg;
    const unsigned first = draw(n_blocks);
    for (unsigned k = 0; k < n_blocks; k++) {
        const unsigned b = (first + k) % n_blocks;

        blockIdx = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
        run_block();
    }
}

void *emulator_shared(void)
{
    return shared;
}

void emulator_barrier(void)
{
    const unsigned now = barrier;

    if (++n_at_barrier == n_threads) {
        n_at_barrier = 0;
        barrier++;
    } else {
        wait_for(&barrier, now);
    }
}

const unsigned char *emulator_meet(const void *mine, size_t n_bytes)
{
    struct warp *w = &warps[running / 32];
    const unsigned now = w->meeting;
    unsigned char *brought = w->brought[now % 2];

    memcpy(brought + running % 32 * 64, mine, n_bytes);
    if (++w->n_came == 32) {
        w->n_came = 0;
        w->meeting++;
    } else {
        wait_for(&w->meeting, now);
    }
    return brought;
}

/* ---- asynchronous copies ------------------------------------------------------------------------ */

void emulator_copy(void *to, const void *from, bool real)
{
    struct fiber *f = &fibers[running];

    if ((uintptr_t)to % 16 != 0 || (real && (uintptr_t)from % 16 != 0))
        wrong("a copy of 16 bytes that is not aligned");
    if ((unsigned char *)to < shared || (unsigned char *)to + 16 > shared + SHARED_BYTES)
        wrong("a copy to somewhere else than shared memory");
    if (f->n_copies == MAX_COPIES)
        wrong("too many copies that nobody waits for");
    memset(to, 0xff, 16);
    f->copies[f->n_copies++] = {to, from, real, f->group};
}

void emulator_commit(void)
{
    fibers[running].group++;
}

void emulator_wait(int n_left)
{
    struct fiber *f = &fibers[running];
    int n = 0;

    for (int i = 0; i < f->n_copies; i++) {
        const struct copy *c = &f->copies[i];

        if (c->group >= f->group - n_left)
            f->copies[n++] = *c;
        else if (c->real)
            memcpy(c->to, c->from, 16);
        else
            memset(c->to, 0, 16);
    }
    f->n_copies = n;
}

/* ---- the matrix instructions -------------------------------------------------------------------- */

/* As the PTX ISA has ldmatrix ("Matrix load instruction"): threads 8 i .. 8 i + 7 have the
 * addresses of the rows of matrix i.  Of a matrix a thread gets elements 2 (lane % 4) and the next
 * of row lane / 4; .trans: of column lane / 4. */
void k_load_transposed(uint32_t out[4], const void *row)
{
    if ((uintptr_t)row % 16 != 0 || (const unsigned char *)row < shared ||
        (const unsigned char *)row + 16 > shared + SHARED_BYTES)
        wrong("a row of a matrix that is not 16 aligned bytes of shared memory");
    const unsigned char *all = emulator_meet(row, 16);
    const unsigned lane = running % 32, column = lane / 4, first = lane % 4 * 2;

    for (unsigned i = 0; i < 4; i++) {
        uint16_t two[2];

        for (unsigned k = 0; k < 2; k++)
            memcpy(&two[k], all + (8 * i + first + k) * 64 + column * 2, sizeof two[k]);
        out[i] = (uint32_t)two[1] << 16 | two[0];
    }
}

/* Element i of what a lane has brought: of A, then of B. */
static double half_of(const unsigned char *brought, int i)
{
    uint32_t word;

    memcpy(&word, brought + i / 2 * 4, sizeof word);
    return (double)k_from_bits(i & 1 ? word & 0xffff0000u : word << 16);
}

/* As the PTX ISA has it ("Matrix Fragments for mma.m16n8k16 with floating point type"):
 *   groupID = lane >> 2, threadID_in_group = lane % 4
 *   A  row = groupID for ai where 0 <= i < 2 || 4 <= i < 6, groupID + 8 otherwise
 *      col = threadID_in_group * 2 + (i & 1) for i < 4, + 8 for i >= 4
 *   B  row = threadID_in_group * 2 + (i & 1) for i < 2, + 8 for i >= 2     col = groupID
 *   C  row = groupID for ci where i < 2, groupID + 8 otherwise
 *      col = threadID_in_group * 2 + (i & 1)
 * The sum of 16 products is exact here, then added and rounded once; the hardware's order is not
 * documented. */
void k_mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
    const uint32_t mine[6] = {a0, a1, a2, a3, b0, b1};
    const unsigned char *all = emulator_meet(mine, sizeof mine);
    const int lane = (int)(running % 32), group = lane >> 2, in_group = lane % 4;
    double a[2][16], b[16][2]; /* rows group and group + 8, columns 2 * in_group and the next */

    for (int other = group * 4; other < group * 4 + 4; other++) /* they have those rows of A */
        for (int i = 0; i < 8; i++) {
            const int col = other % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0);

            a[i < 2 || (i >= 4 && i < 6) ? 0 : 1][col] = half_of(all + other * 64, i);
        }
    for (int other = in_group * 8; other < in_group * 8 + 8; other++) /* and those columns of B */
        for (int i = 0; i < 4; i++) {
            const int row = other % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), col = other >> 2;

            b[row][col % 2] = half_of(all + other * 64, 8 + i);
        }
    for (int i = 0; i < 4; i++) {
        double sum = 0.0;

        for (int k = 0; k < 16; k++)
            sum += a[i < 2 ? 0 : 1][k] * b[k][i & 1];
        c[i] = (float)(c[i] + sum);
    }
}

/*
 * model.h - model files, hyper-parameters, weights, the decoder, the sampler.
 *
 * Shape letters for the whole tree:
 *   B sequences  T new tokens  S context tokens  L layers  D width  F ffn width  V vocabulary
 *   H query heads  K kv heads  E head size  N blocks in the pool  P tokens per block
 */
#ifndef EPIDOTE_MODEL_H
#define EPIDOTE_MODEL_H

#include "kv/kv.h"
#include "ops/ops.h"
#include "text/text.h"

/* ---- hyper-parameters (config) -------------------------------------------------------------- */

enum { MODEL_MAX_EOS = 16, MODEL_MAX_E = 256, MODEL_MAX_L = 1024 };

enum activation { ACTIVATION_SILU, ACTIVATION_GELU };
/* RMSNorm of q and k: none; of each head by itself; of all heads of a token together. */
enum qk_norm { QK_NORM_NONE, QK_NORM_HEAD, QK_NORM_ALL };

/* The angle of pair i at a position is position * base^(-2i/E) / divisors[i]. */
struct model_rope {
    double base;
    char scaling[16]; /* "" = none: no divisors; else what the file calls it */
    double divisors[MODEL_MAX_E / 2];
};

/* Ways in which one layer differs from others. */
enum layer_trait {
    LAYER_WINDOW =
        1, /* its attention sees `window` tokens, and it has rope_window if there is one */
    LAYER_NO_ROPE = 2
};

/* Everything that the arithmetic depends on.  Zeros in the second part are what llama does. */
struct model_config {
    char family[32]; /* "llama" */
    int L, D, F, H, K, E, V;
    int context; /* tokens the model was made for */
    float eps;   /* of RMSNorm */
    struct model_rope rope;
    bool tied;  /* the LM head is the embedding */
    int bos_id; /* -1 = none */
    int eos_ids[MODEL_MAX_EOS], n_eos;

    bool qkv_bias, o_bias; /* q, k and v have a bias each, in every layer; o has one */
    enum activation activation;
    enum qk_norm qk_norm;
    bool no_pre_norm, post_norm; /* attention and ffn: their input as it is; their output normed */
    int X, n_used_experts;       /* X = 0: one ffn.  Else F is the width of an expert */
    bool normalise_experts;      /* the weights of the experts used have the sum 1 */
    double attn_scale;           /* of q k^T; 0 = 1/sqrt(E) */
    double attn_softcap, final_softcap;              /* of scores and logits; 0 = none */
    double embed_scale, residual_scale, logit_scale; /* factors of embeddings, of what a block adds
                                                        to the residual stream, of logits; 0 = 1 */
    bool embed_scale_rounded;                        /* to the type of the weights */
    int window; /* tokens that a layer with LAYER_WINDOW sees, its own included */
    struct model_rope rope_window; /* base 0: as rope */
    uint8_t layers[MODEL_MAX_L];   /* enum layer_trait, ored */

    int image_id; /* the token whose place an image's embeddings take, if there is a vision tower */
    int mrope[3]; /* M-RoPE: pairs of a head that turn by the first, second and third position of a
                     token; all 0 = every pair by the one position there is */
};

/* ---- files (source.c inspect.c bind.c naming.c dequant.c, gguf*.c, hf_*.c safetensors.c) --- */

/* Fingerprints hold these numbers: new ones go to the end. */
enum tensor_type {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_Q4_0,
    TENSOR_Q4_1,
    TENSOR_Q8_0,
    TENSOR_Q5_0,
    TENSOR_Q5_1,
    TENSOR_Q2_K,
    TENSOR_Q3_K,
    TENSOR_Q4_K,
    TENSOR_Q5_K,
    TENSOR_Q6_K,
    TENSOR_F8_E4M3, /* of safetensors only */
    TENSOR_TYPE_COUNT
};
const char *tensor_type_name(enum tensor_type type);

/* The tensors of a decoder, in one naming for all formats.  Layer ones come L times, those of
 * experts L * X times.  Which of them a model has, follows from its configuration (naming.c). */
enum weight_id {
    WEIGHT_EMBED,          /* [V, D] */
    WEIGHT_FINAL_NORM,     /* [D] */
    WEIGHT_HEAD,           /* [V, D]; absent when tied */
    WEIGHT_ATTN_NORM,      /* [D]; absent, as FFN_NORM, with no_pre_norm */
    WEIGHT_Q,              /* [H*E, D] */
    WEIGHT_K,              /* [K*E, D] */
    WEIGHT_V,              /* [K*E, D] */
    WEIGHT_O,              /* [D, H*E] */
    WEIGHT_FFN_NORM,       /* [D] */
    WEIGHT_GATE,           /* [F, D]; these three are absent where there are experts */
    WEIGHT_UP,             /* [F, D] */
    WEIGHT_DOWN,           /* [D, F] */
    WEIGHT_Q_BIAS,         /* [H*E]; absent, as K and V, without qkv_bias */
    WEIGHT_K_BIAS,         /* [K*E] */
    WEIGHT_V_BIAS,         /* [K*E] */
    WEIGHT_O_BIAS,         /* [D]; absent without o_bias */
    WEIGHT_Q_NORM,         /* [E], or [H*E] with QK_NORM_ALL; absent without qk_norm */
    WEIGHT_K_NORM,         /* [E], or [K*E] */
    WEIGHT_ATTN_POST_NORM, /* [D]; absent, as FFN_POST_NORM, without post_norm */
    WEIGHT_FFN_POST_NORM,  /* [D] */
    WEIGHT_ROUTER,         /* [X, D]; absent, as what follows, without experts */
    WEIGHT_X_GATE,         /* [F, D], one for each expert */
    WEIGHT_X_UP,           /* [F, D] */
    WEIGHT_X_DOWN,         /* [D, F] */
    WEIGHT_COUNT
};

static inline bool weight_of_expert(enum weight_id id)
{
    return id >= WEIGHT_X_GATE;
}

static inline bool weight_is_bias(enum weight_id id)
{
    return id >= WEIGHT_Q_BIAS && id <= WEIGHT_O_BIAS;
}

static inline bool weight_is_norm(enum weight_id id)
{
    return id == WEIGHT_FINAL_NORM || id == WEIGHT_ATTN_NORM || id == WEIGHT_FFN_NORM ||
           (id >= WEIGHT_Q_NORM && id <= WEIGHT_FFN_POST_NORM);
}

/* One weight as stored; row-major, rows of n_cols elements.  A vector has n_rows = 1. */
struct tensor_view {
    const char *name; /* of its tensor in the file, for messages */
    enum tensor_type type;
    int64_t n_rows, n_cols;
    int64_t first_row, tensor_rows; /* its place in the tensor, which may hold other weights too */
    const uint8_t *data;            /* of its first row; view into the mapped file */
    size_t row_bytes;
    const struct tensor_scales *scales; /* of 8-bit floats; NULL: none */
};

struct model_source;

/*
 * model_open - map a GGUF file or a Hugging Face directory and check all of it: header, sizes,
 * types, offsets, overlaps, required tensors and their shapes, tensors and configuration keys that
 * are not understood.
 *   path  in  a .gguf file, or a directory with config.json
 * The files must not change until model_close.  Local.
 * Returns ST_OK, ST_IO, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM; logged with file, place, remedy.
 */
enum status model_open(const char *path, struct model_source **out_source);
void model_close(struct model_source *source);
const struct model_config *model_source_config(const struct model_source *source);
/* model_source_tensor - NULL where absent (WEIGHT_HEAD of a tied model, biases of a model without).
 * layer is ignored for model-wide ids; for weights of experts it is layer * X + expert, here and
 * in model_source_row. */
const struct tensor_view *model_source_tensor(const struct model_source *source, enum weight_id id,
                                              int layer);
/* model_source_row - row `row` of a weight as float32 [n_cols]; rows of q and k, and the elements
 * of their biases, in HF order whatever the file's (llama GGUFs hold them permuted); norms as what
 * is multiplied, whether or not the file holds them less 1. */
void model_source_row(const struct model_source *source, enum weight_id id, int layer, int64_t row,
                      float *out);
/* model_source_part - elements first .. first + n - 1 of a row of a matrix; both are multiples of
 * the type's block (256 is one of each). */
void model_source_part(const struct model_source *source, enum weight_id id, int layer, int64_t row,
                       int64_t first, int64_t n, float *out);
/* model_source_tokenizer - a new tokeniser, owned by the caller; each of its ids is below V.
 * Returns as tokenizer_create, and ST_IO. */
enum status model_source_tokenizer(const struct model_source *source,
                                   struct tokenizer **out_tokenizer);
/* How the model's makers would have it sampled; as struct sampler_params has it. */
struct model_sampling {
    double temperature, top_p, min_p, repetition_penalty;
    int top_k;
};
/* model_source_sampling - from generation_config.json or the keys of a GGUF file.  Returns ST_OK,
 * ST_CONFIG (it says nothing), ST_UNSUPPORTED, ST_FORMAT, ST_IO; logged. */
enum status model_source_sampling(const struct model_source *source, struct model_sampling *out);
/* model_open_tokenizer - the tokeniser of a GGUF file or directory of any family, whether or not
 * the rest of it could be used or is there at all; owned by the caller. Returns as
 * model_source_tokenizer. */
enum status model_open_tokenizer(const char *path, struct tokenizer **out_tokenizer);
/* model_source_chat_template - the Jinja text the file carries, NULL if none; view. */
const char *model_source_chat_template(const struct model_source *source);
/* model_source_tool_template - the one for conversations with tools, NULL if it has none of its
 * own; view. */
const char *model_source_tool_template(const struct model_source *source);
/* model_source_fingerprint - content hash of weights, config and tokeniser; reads the whole file.
 */
uint64_t model_source_fingerprint(const struct model_source *source);
/* model_source_glimpse - a hash of the config and of the first row of every tensor: not what is in
 * the files, but enough to see that two ranks look at two models. */
uint64_t model_source_glimpse(const struct model_source *source);
/* model_source_forget - its files' pages leave this process's memory until they are read again. */
void model_source_forget(const struct model_source *source);
/* model_inspect - family, sizes, types, context, tokeniser, template, memory, as text. */
enum status model_inspect(const struct model_source *source, struct buf *out_text);

/* ---- weights (weights.c) -------------------------------------------------------------------- */

struct weights; /* packed, one copy in memory */
struct weights_args {
    const struct model_source *source; /* borrowed; may be closed afterwards, unless stored */
    enum ops_type type;
    bool stored; /* matrices stay in the file, mapped, and are made into the type as they are used:
                    the same results for the memory of the file.  Outlived by source then */
    struct threads *threads; /* borrowed */
    void *memory;      /* [weights_bytes, or weights_stored_bytes] zeros, 64-byte aligned, borrowed,
                          outlives the weights; the ranks of a node share it.  NULL = pages of its
                          own */
    int part, n_parts; /* fill every n_parts-th layer from `part` on; 0, 0 = all.  Whoever fills
                          the others must have finished before the weights are used */
};
/* weights_create - dequantise, check for NaN and infinity (ST_FORMAT, naming tensor and row), pack.
 * Local.  Returns ST_OK, ST_FORMAT, ST_NOMEM. */
enum status weights_create(const struct weights_args *args, struct weights **out_weights);
void weights_destroy(struct weights *weights);
/* weights_bytes - of memory, where they are packed.  weights_stored_bytes - where they are stored;
 * *out_mapped: of the model's files, beside it. */
size_t weights_bytes(const struct model_config *config, enum ops_type type);
size_t weights_stored_bytes(const struct model_source *source, size_t *out_mapped);

/* ---- sampler (sampler.c) -------------------------------------------------------------------- */

struct sampler_params {
    double temperature;                      /* 0 = greedy */
    double top_p, min_p, repetition_penalty; /* 1, 0, 1 = off */
    int top_k;                               /* 0 = off */
    uint64_t seed;                           /* with row, sample and position: the Philox key */
    uint64_t row;                            /* global, or 0 with a per-row seed */
    uint64_t sample;
    int n_top; /* -1 = no logprobs, 0 = the chosen token's, n = and the top n */
};

enum { SAMPLER_MAX_TOP = 64 };

struct sampled {
    int32_t token;
    float logprob; /* of the unmodified logits, if n_top >= 0 */
    int32_t top_ids[SAMPLER_MAX_TOP];
    float top_logprobs[SAMPLER_MAX_TOP];
};

/* Scratch for one sampling thread: sized by V once. */
struct sampler;
enum status sampler_create(int V, struct sampler **out_sampler);
void sampler_destroy(struct sampler *sampler);

/*
 * sampler_pick - one token from one row of logits.  Pure in its arguments.
 *   Order: repetition penalty, temperature, top-k, top-p, min-p.  Ties go to the lowest id.
 *   logits    in  [V], unmodified
 *   max, logsum in  from ops.softmax_stats
 *   history   in  [n_history] prompt and answer so far
 *   position  in  absolute position of the token to be sampled
 * Returns ST_OK, ST_ROW (a logit is NaN or +inf: err says so).
 */
enum status sampler_pick(struct sampler *sampler, const struct sampler_params *params,
                         const float *logits, float max, float logsum, const int32_t *history,
                         int n_history, int position, struct sampled *out, struct row_error *err);

/* ---- vision: configuration (vision_config.c, vision_prep_file.c) ---------------------------- */

/*
 * A vision-language model is a decoder (struct model_config, as any other), a tower that makes
 * embeddings of an image, and what the image's place in a prompt looks like.
 *
 *   llava     one picture of a fixed size; CLIP ViT with class token; two-layer projector
 *   idefics3  a picture cut into tiles of a fixed size, and itself made as small as a tile; SigLIP
 *             ViT; pixel shuffle; one matrix
 *   qwen2vl   one picture of about its own size; ViT with 2-D RoPE; 2 x 2 patches merged; M-RoPE
 */
enum vision_layout { VISION_LLAVA, VISION_IDEFICS3, VISION_QWEN2VL, VISION_LAYOUT_COUNT };
enum resample { RESAMPLE_NEAREST, RESAMPLE_BILINEAR, RESAMPLE_BICUBIC, RESAMPLE_LANCZOS };
enum vision_activation { VISION_QUICK_GELU, VISION_GELU_TANH, VISION_GELU_ERF };

/* preprocessor_config.json: from the pixels of an image to what the tower sees. */
struct vision_prep {
    bool resize, crop, rescale, normalise;
    bool split;      /* idefics3: into tiles */
    bool pad_square; /* to a square, with the mean, before anything else */
    enum resample resample;
    int shortest_edge, longest_edge; /* that resizing aims at; 0 = not asked for */
    int height, width;               /* that it makes whatever the image's shape; 0 likewise */
    int crop_height, crop_width;     /* of the middle */
    int tile_edge;                   /* idefics3 */
    int64_t min_pixels, max_pixels;  /* qwen2vl */
    double rescale_factor;           /* of a pixel's 0 .. 255 */
    double mean[3], std[3];          /* of red, green, blue, after that */
};

/* Letters as in the decoder, here of the tower. */
struct vision_config {
    enum vision_layout layout;
    struct vision_prep prep;
    int L, D, F, H, E; /* L: layers that are computed: none behind the one whose output is used */
    int patch;         /* pixels along an edge of a patch */
    int patch_frames;  /* times that each patch is seen: 2 in qwen2vl, which also knows films */
    int grid;          /* patches along an edge of a picture of fixed size; 0 = of any size */
    int merge;        /* patches along an edge of what becomes one embedding; 1 = each for itself */
    double eps;       /* of LayerNorm */
    double rope_base; /* qwen2vl: of both directions */
    enum vision_activation activation, projector_activation;
    bool class_token;      /* there is one, before the patches */
    bool keep_class_token; /* and its output is an embedding too */
    bool patch_bias;       /* patches' embeddings have a bias */
    bool pre_norm;         /* LayerNorm before the first layer */
    bool post_norm;        /* and after the last that is computed */
    bool projector_bias;
    int L_file; /* layers that the file holds: some may be of no use */
    int D_out;  /* width of embeddings: the decoder's D */
};

/* model_source_vision - NULL: the model sees nothing.  View. */
const struct vision_config *model_source_vision(const struct model_source *source);

/* ---- vision: from image to patches (vision_plan.c vision_patches.c resize.c) ----------------- */

/* What an image of one size becomes. */
struct vision_plan {
    int width, height;    /* of the image, as it is to be looked at */
    int tiles_x, tiles_y; /* idefics3: 0 = it is not cut */
    int n_pictures;       /* that the tower sees: tiles and the whole; else 1 */
    int grid_h, grid_w;   /* patches of each of them */
    int n_patches;        /* of all */
    int n_rows;           /* embeddings: [n_rows, D_out] */
    int rows_h, rows_w;   /* qwen2vl: their places in the picture; else 0 */
};
/* vision_plan_make - Pure.  Returns ST_OK, ST_ROW (no such image can be taken: err says why). */
enum status vision_plan_make(const struct vision_config *config, int width, int height,
                             struct vision_plan *out_plan, struct row_error *err);
/* vision_patch_elems - numbers of one patch: 3 * patch_frames * patch * patch. */
int vision_patch_elems(const struct vision_config *config);
/* vision_patches - resize, crop, cut, rescale, normalise, as preprocessor_config.json says.
 *   rgb  in   [plan->height, plan->width, 3]
 *   out  out  [n_patches, 3, patch_frames, patch, patch] in the order in which the tower takes them
 * The same numbers on every machine: integers and float32 in one order, one thread.
 * Returns ST_OK, ST_NOMEM. */
enum status vision_patches(const struct vision_config *config, const struct vision_plan *plan,
                           const uint8_t *rgb, float *out);

/* ---- vision: an image's place in a prompt (vision_prompt.c) ---------------------------------- */

/* The ids that stand around and between the embeddings of an image. */
struct vision_prompt;
/* vision_prompt_create - Returns ST_OK, ST_FORMAT (the tokeniser lacks one; logged), ST_NOMEM. */
enum status vision_prompt_create(const struct vision_config *config,
                                 const struct model_config *decoder,
                                 const struct tokenizer *tokenizer,
                                 struct vision_prompt **out_prompt);
void vision_prompt_destroy(struct vision_prompt *prompt);
/* vision_prompt_marker - the text that the model itself has for an image ("<|image_pad|>").
 * vision_prompt_wrapped - what `<image>` in a prompt is read as: the marker with what always
 * stands around it.  Views. */
const char *vision_prompt_marker(const struct vision_prompt *prompt);
const char *vision_prompt_wrapped(const struct vision_prompt *prompt);
/* vision_prompt_put - append the ids that take the place of one image_id; plan->n_rows of them are
 * image_id.
 * Returns ST_OK, ST_NOMEM. */
enum status vision_prompt_put(const struct vision_prompt *prompt, const struct vision_plan *plan,
                              struct token_list *list);

/* An image of a sequence. */
struct seq_image {
    int32_t first;          /* place of its first image_id in the sequence */
    int32_t n_rows;         /* embeddings; so many image_ids from there on are its own */
    int32_t rows_h, rows_w; /* as in the plan */
};
/* mrope_positions - the three positions of each token of a prompt.
 *   images         in   [n_images] in order of place
 *   out_positions  out  [n_tok, 3]
 *   out_shift      out  what later tokens add to their place to get their position, in all three
 * As transformers' get_rope_index for images.  Pure. */
void mrope_positions(const struct seq_image *images, int n_images, int n_tok,
                     int32_t *out_positions, int *out_shift);

/* ---- vision: the tower (vision_weights.c vision.c) ------------------------------------------- */

struct vision_weights; /* packed */
struct vision_weights_args {
    const struct model_source *source; /* borrowed; may be closed afterwards */
    enum ops_type type;
    struct threads *threads; /* borrowed */
    void *memory;            /* [vision_weights_bytes] zeros, as in struct weights_args; or NULL */
    int part, n_parts;       /* likewise */
};
/* vision_weights_create - as weights_create. */
enum status vision_weights_create(const struct vision_weights_args *args,
                                  struct vision_weights **out_weights);
void vision_weights_destroy(struct vision_weights *weights);
size_t vision_weights_bytes(const struct vision_config *config, enum ops_type type);

/* One image of a batch. */
struct vision_item {
    const struct vision_plan *plan; /* borrowed, as what follows, until the batch is done */
    const float *patches; /* [n_patches, vision_patch_elems], as vision_patches makes them */
    float *out;           /* [n_rows, D_out] embeddings, as the decoder takes them */
};

struct vision;
struct vision_args {
    const struct vision_config *config;   /* copied */
    const struct vision_weights *weights; /* borrowed */
    const struct ops *ops;
    struct threads *threads; /* borrowed */
    int max_patches;         /* of one batch */
};
/* vision_create - all scratch is set aside here. */
enum status vision_create(const struct vision_args *args, struct vision **out_vision);
void vision_destroy(struct vision *vision);
/* vision_begin - items borrowed until the batch is done; its patches are within the limit (assert).
 * vision_part - one bounded part of the work, about a layer; *out_done: that was the last.
 * An image's embeddings do not depend on the others of its batch.  Local. */
enum status vision_begin(struct vision *vision, const struct vision_item *items, int n_items);
enum status vision_part(struct vision *vision, bool *out_done);
/* vision_flop - operations (multiplications and additions) that an image takes: for floors. */
double vision_flop(const struct vision_config *config, const struct vision_plan *plan);

/* ---- decoder (decoder.c decoder_ffn.c) ------------------------------------------------------ */

/* One step's work: token ids of all sequences one after another, what each sequence needs. */
struct decoder_batch {
    int T, B;                   /* T = sum of seqs[].n_tok */
    const int32_t *tokens;      /* [T] */
    const struct ops_seq *seqs; /* [B] */
    const int32_t *logit_rows;  /* [n_logit_rows] 0 <= r < T whose logits are wanted, ascending */
    int n_logit_rows;
    const float *const *inputs; /* [T] or NULL; of tokens that have one, the embedding [D] that
                                   stands for them, as an image's do; NULL = look it up */
    const int32_t *positions;   /* [T, 3] or NULL: what RoPE turns by, where it is not the place in
                                   the sequence; all three alike without M-RoPE */
};

struct decoder;
struct decoder_args {
    const struct model_config *config; /* copied */
    const struct weights *weights;     /* borrowed */
    const struct ops *ops;
    struct threads *threads; /* borrowed */
    int max_T, max_B, max_logit_rows, context;
};
/* decoder_create - all scratch is set aside here; a step allocates nothing. */
enum status decoder_create(const struct decoder_args *args, struct decoder **out_decoder);
void decoder_destroy(struct decoder *decoder);
/* decoder_position_bytes - of its tables, for each token of context. */
size_t decoder_position_bytes(const struct model_config *config);
/* A layer in parts, so that whoever waits for keys and values need not wait for the rest, and a
 * long layer lets others have a turn.  DECODER_KV: those of the batch are in their blocks. */
enum decoder_part { DECODER_KV, DECODER_ATTEND, DECODER_GATE, DECODER_DOWN, DECODER_PARTS };
/* The steps of one forward pass, in order: begin, layer 0 .. L-1, end.  Local, each runs to its
 * end.  decoder_part - one part of a layer, all in turn; decoder_layer - all of them. */
enum status decoder_begin(struct decoder *decoder, const struct decoder_batch *batch);
enum status decoder_part(struct decoder *decoder, int layer, enum decoder_part part,
                         const struct kv_space *space);
enum status decoder_layer(struct decoder *decoder, int layer, const struct kv_space *space);
/* decoder_end - out_logits: view [n_logit_rows, V], with max and logsum [n_logit_rows], until the
 * next begin. */
enum status decoder_end(struct decoder *decoder, const float **out_logits, const float **out_max,
                        const float **out_logsum);

/* ---- on a GPU (weights_cuda.c decoder_cuda.c decoder_cuda_setup.c) --------------------------- */

/* decoder_cuda_check - whether the kernels can compute such a model.
 * Pure.  Returns ST_OK, ST_UNSUPPORTED (why names what they lack). */
enum status decoder_cuda_check(const struct model_config *config, struct row_error *why);

struct weights_cuda; /* bf16, row by row, in memory of the device */
struct weights_cuda_args {
    const struct model_source *source; /* borrowed; may be closed afterwards */
    struct threads *threads;           /* borrowed, for the upload */
    const struct ops_cuda *cuda;       /* borrowed, outlives the weights; started */
};
/* weights_cuda_create - dequantise, check for NaN and infinity, upload.  Waits for the device.
 * Local.  Returns ST_OK, ST_FORMAT, ST_NOMEM, ST_IO. */
enum status weights_cuda_create(const struct weights_cuda_args *args,
                                struct weights_cuda **out_weights);
void weights_cuda_destroy(struct weights_cuda *weights);
/* weights_cuda_bytes - of the device's memory. */
size_t weights_cuda_bytes(const struct model_config *config);

struct decoder_cuda;
struct decoder_cuda_args {
    const struct model_config *config;  /* copied; decoder_cuda_check has agreed */
    const struct weights_cuda *weights; /* borrowed */
    const struct ops_cuda *cuda;        /* borrowed; started */
    struct kv_space space;              /* in memory of the device */
    int max_T, max_B, max_logit_rows, context;
};
/* decoder_cuda_create - all memory, of host and device, is set aside here.
 * Returns ST_OK, ST_NOMEM, ST_IO (logged). */
enum status decoder_cuda_create(const struct decoder_cuda_args *args,
                                struct decoder_cuda **out_decoder);
/* decoder_cuda_destroy - waits for what the device is doing.  Accepts NULL. */
void decoder_cuda_destroy(struct decoder_cuda *decoder);
/* decoder_cuda_picks - whether the device can pick the tokens of such a row: nobody wants its
 * log-probabilities, and no logit changes by what has been said. */
bool decoder_cuda_picks(const struct decoder_cuda *decoder, const struct sampler_params *params);
/* A token that the device is to pick.  Without params none is, and the logits come back. */
struct decoder_cuda_pick {
    const struct sampler_params *params; /* decoder_cuda_picks has agreed */
    int position;                        /* as of sampler_pick */
};
/* decoder_cuda_submit - enqueue a whole forward pass; the one before is done.
 *   batch       in  has neither inputs nor positions; its arrays are copied
 *   picks       in  [n_logit_rows], copied; NULL = all logits come back
 *   of_prompts  in  by the kernels for prompts; else each sequence has one token, of an answer
 * Does not wait for the device.
 * Returns ST_OK, ST_IO (a launch failed; logged with kernel and shape). */
enum status decoder_cuda_submit(struct decoder_cuda *decoder, const struct decoder_batch *batch,
                                const struct decoder_cuda_pick *picks, bool of_prompts);
/* decoder_cuda_layer_done - whether the keys and values of a layer are in their blocks;
 * decoder_cuda_done - whether the pass has ended.  Neither waits.  Return ST_OK, ST_IO. */
enum status decoder_cuda_layer_done(struct decoder_cuda *decoder, int layer, bool *out_done);
enum status decoder_cuda_done(struct decoder_cuda *decoder, bool *out_done);
/* decoder_cuda_logits - as decoder_end, in host memory, of a pass that has ended; of a row whose
 * token was picked the figures only. */
void decoder_cuda_logits(const struct decoder_cuda *decoder, const float **out_logits,
                         const float **out_max, const float **out_logsum);
/* decoder_cuda_tokens - likewise [n_logit_rows] what was picked, -1 where the sampler would refuse
 * the logits: then max is NaN.  Of other rows anything. */
const int32_t *decoder_cuda_tokens(const struct decoder_cuda *decoder);

#endif

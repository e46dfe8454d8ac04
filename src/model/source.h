/*
 * source.h - what the files that read models share with each other.
 *
 *   model_open (source.c)
 *     FILE.gguf: gguf.c (container), gguf_hparams.c gguf_config.c (keys) ─┐
 *     DIR: hf_dir.c (files), hf_config.c (keys), safetensors.c (tensors) ─┤
 *          vision_config.c (keys of a vision tower)                       │
 *                                                                         ▼
 *                                                     struct model_config, struct tensor_list
 *     naming.c (names and shapes), bind.c: a struct tensor_view for each weight_id and layer
 *     vision_bind.c: the same for each tower_id and layer
 *
 * A new tensor type is a row in dequant.c, a new family a row in families.c, its tensors' names in
 * naming.c and its keys in the two config files, a new container one file that fills a tensor_list.
 *
 * Everything that comes from a file is checked before it is believed.  Parsers take (data, n_bytes,
 * origin), so that tests and fuzzers feed them from memory; origin is the file name for messages.
 */
#ifndef EPIDOTE_MODEL_SOURCE_H
#define EPIDOTE_MODEL_SOURCE_H

#include <jansson.h>

#include "model/model.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "model files are little-endian");

/* ---- tensor types (dequant.c) ---------------------------------------------------------------- */

struct tensor_type_info {
    const char *name;
    int block_elems, block_bytes; /* a row is whole blocks */
    /* n_blocks blocks as float32 [n_blocks * block_elems]; data has no alignment. */
    void (*dequantize)(const uint8_t *data, int64_t n_blocks, float *out);
};
const struct tensor_type_info *tensor_type_info(enum tensor_type type);

/* ---- tensors as a container lists them (bind.c) --------------------------------------------- */

enum { TENSOR_MAX_DIMS = 5, TENSOR_MAX_NAME = 255 };

struct source_tensor {
    const char *name;      /* owned by the source's arena */
    const char *file_name; /* what the file calls it; NULL: just so */
    const char *origin;    /* the file it is in; borrowed */
    enum tensor_type type;
    int n_dims;
    int64_t dims[TENSOR_MAX_DIMS]; /* outermost first; unused ones are 1 */
    const uint8_t *data;           /* view into the mapped file */
    size_t n_bytes;
    bool bound; /* is a weight of the model */
};

/* What messages call it. */
static inline const char *source_tensor_name(const struct source_tensor *tensor)
{
    return tensor->file_name != NULL ? tensor->file_name : tensor->name;
}

struct tensor_list {
    struct source_tensor *tensors; /* owned */
    int64_t n_tensors, cap_tensors;
};

/* tensor_list_add - append a copy of *tensor.  Returns ST_OK, ST_NOMEM. */
enum status tensor_list_add(struct tensor_list *list, const struct source_tensor *tensor);
void tensor_list_free(struct tensor_list *list);
/* tensor_name_ok - printable ASCII, 1 to TENSOR_MAX_NAME bytes. */
bool tensor_name_ok(const char *name, size_t n_bytes);
/* tensor_measure - fill n_bytes of a tensor from its type and dims.  Returns ST_OK, ST_FORMAT (no
 * elements, rows that are not whole blocks, more than 2^62 bytes; logged). */
enum status tensor_measure(struct source_tensor *tensor);
/* tensor_list_check_places - that tensors from index `first` on, all in one file whose tensor data
 * begins at base, do not overlap; sorts them by place.  Returns ST_OK, ST_FORMAT. */
enum status tensor_list_check_places(struct tensor_list *list, int64_t first, const uint8_t *base);

/* tensor_list_find - by name, in a list that source_bind has sorted; NULL if it is not there. */
struct source_tensor *tensor_list_find(const struct tensor_list *list, const char *name);

/* ---- weights of 8-bit floats (hf_quant.c) ---------------------------------------------------- */

/* What quantization_config says; suffix NULL: nothing. */
struct hf_quant {
    const char *suffix;         /* behind a weight's name: the name of its scales */
    int block_rows, block_cols; /* that share a scale; 0: a row or the tensor, as the shape says */
};

/* The scale of element (r, c) is number (first_row + r) / block_rows * n_across + c / block_cols.
 */
struct tensor_scales {
    enum tensor_type type;
    const uint8_t *data; /* view into the mapped file */
    size_t n_bytes;
    int64_t first_row; /* of the weight in its matrix, which may hold others before it */
    int64_t block_rows, block_cols, n_across;
};

struct model_source;
/* hf_quant_parse - the value of quantization_config, NULL if there is none.
 * Returns ST_OK, ST_UNSUPPORTED (logged by name). */
enum status hf_quant_parse(const json_t *config, const char *origin, struct hf_quant *out);
/* source_bind_scales - find the scales of a tensor, if it needs any, for *view, a part of it.
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status source_bind_scales(struct model_source *source, const struct tensor_list *list,
                               const struct source_tensor *tensor, struct tensor_view *view);
/* tensor_apply_scales - to n elements of a row from `first` on. */
void tensor_apply_scales(const struct tensor_scales *scales, int64_t row, int64_t first, int64_t n,
                         float *out);

/* ---- an open model -------------------------------------------------------------------------- */

struct model_source {
    char *path;         /* owned */
    const char *format; /* "GGUF v3", "safetensors" */
    struct arena *arena;
    struct source_file {
        const char *path; /* borrowed: in arena, or path above */
        struct file_map map;
    } * files; /* owned */
    int n_files;
    struct model_config config;
    struct hf_quant quant;             /* of a directory */
    const struct model_family *family; /* static */
    bool permuted;                     /* q and k rows are as llama GGUFs hold them */
    bool norms_less_one;               /* the file holds norms less 1 */
    const char *layers_key;            /* where the file says how many layers there are */
    struct tensor_view *views;         /* owned; see model_source_tensor; data NULL = absent */
    const char *chat_template;         /* in arena, NULL if none */
    const char *tool_template;         /* in arena, NULL if none */
    struct gguf *gguf;                 /* in arena: the keys of a GGUF file; NULL for directories */
    struct vocab_spec vocab;           /* of a GGUF file; n_tokens 0 for directories */
    bool sees;                         /* there is a vision tower: */
    struct vision_config vision;
    struct tensor_view *tower; /* owned; see tower_tensor */
};

/* Views lie in the order of enum weight_id: the shared ones, then those of layer 0, 1, ..., then
 * those of the experts of layer 0, of layer 1, ... */
static inline bool weight_of_layer(enum weight_id id)
{
    return id >= WEIGHT_ATTN_NORM;
}

static inline int weight_times(const struct model_config *c, enum weight_id id)
{
    return !weight_of_layer(id) ? 1 : weight_of_expert(id) ? c->L * c->X : c->L;
}

static inline size_t weight_place(const struct model_config *c, enum weight_id id, int index)
{
    enum { N_LAYER = WEIGHT_X_GATE - WEIGHT_ATTN_NORM, N_EXPERT = WEIGHT_COUNT - WEIGHT_X_GATE };
    const size_t i = (size_t)index;

    if (!weight_of_layer(id))
        return id;
    if (!weight_of_expert(id))
        return i * N_LAYER + id;
    return WEIGHT_ATTN_NORM + (size_t)c->L * N_LAYER + i * N_EXPERT + (id - WEIGHT_X_GATE);
}

static inline size_t model_n_views(const struct model_config *c)
{
    return weight_place(c, WEIGHT_X_GATE, c->L * c->X);
}

/* source_begin - an empty source for path.  Returns ST_OK, ST_NOMEM.  End with model_close. */
enum status source_begin(const char *path, struct model_source **out_source);
/* source_map - map one more file; path is borrowed as long as the source lives.
 * Returns ST_OK, ST_IO, ST_NOMEM. */
enum status source_map(struct model_source *source, const char *path, struct file_map *out_map);
/* source_check_config - sizes that fit together and that this version can compute.
 * source_check_layers - that there is room for what is kept of each layer.
 * Return ST_OK, ST_FORMAT, ST_UNSUPPORTED; logged with origin. */
enum status source_check_layers(int L, const char *origin);
enum status source_check_config(const struct model_config *config, const char *origin);

/* ---- families (families.c) ------------------------------------------------------------------ */

/* In the order of the table; bits of masks. */
enum family_id {
    FAMILY_LLAMA,
    FAMILY_MISTRAL,
    FAMILY_QWEN2,
    FAMILY_QWEN3,
    FAMILY_GEMMA2,
    FAMILY_GEMMA3,
    FAMILY_SMOLLM3,
    FAMILY_PHI3,
    FAMILY_OLMO2,
    FAMILY_GRANITE,
    FAMILY_MIXTRAL,
    FAMILY_QWEN3MOE,
    FAMILY_OLMOE,
    FAMILY_QWEN2VL, /* the decoder of such a model */
    FAMILY_COUNT
};

/* Which layers have a window where there is one and the file does not list them. */
enum window_layers {
    WINDOW_NOWHERE,
    WINDOW_EVERYWHERE,
    WINDOW_HIGH,   /* from layer max_window_layers on */
    WINDOW_PERIOD, /* all but every window_period-th */
    WINDOW_NO_ROPE /* those without RoPE */
};

struct model_family {
    const char *name;      /* struct model_config's family */
    const char *hf_type;   /* model_type of config.json */
    const char *hf_class;  /* what `architectures` then says */
    const char *gguf_arch; /* general.architecture; NULL: such files say "llama" */
    bool gguf_permuted;    /* GGUF files hold rows of q and k permuted */
    bool hf_less_one;      /* safetensors hold norms less 1 */
    bool embed_by_width;   /* embed_scale is sqrt(D) */
    enum window_layers window_layers;
    int window_period;
    int no_rope_period;         /* every such layer has no RoPE; 0: all have it */
    struct model_config common; /* what all models of the family have in common */
};

/* The row of that id, name, model_type or general.architecture (not NUL-terminated); NULL if none.
 */
const struct model_family *family_of_id(enum family_id id);
const struct model_family *family_of_name(const char *name);
const struct model_family *family_of_hf_type(const char *type);
const struct model_family *family_of_gguf(const char *arch, size_t n_bytes);
static inline unsigned family_bit(enum family_id id)
{
    return 1u << id;
}
unsigned family_mask(const struct model_family *family);
/* families_put - "llama, mistral, ..." as HF or GGUF name them, for messages. */
const char *families_put(bool gguf, char *out, size_t n_bytes);
/* family_set_windows - LAYER_WINDOW where the family has it by default. */
void family_set_windows(const struct model_family *family, struct model_config *config,
                        int max_window_layers);
/* family_set_no_rope - LAYER_NO_ROPE in every period-th layer; 0: in none. */
void family_set_no_rope(struct model_config *config, int period);

/* ---- names (naming.c) ----------------------------------------------------------------------- */

/* Things that some models have and others do not. */
enum weight_feature {
    HAS_HEAD = 1,
    HAS_QKV_BIAS = 2,
    HAS_O_BIAS = 4,
    HAS_QK_NORM = 8,
    HAS_PRE_NORM = 16,
    HAS_POST_NORM = 32,
    HAS_FFN = 64, /* one */
    HAS_EXPERTS = 128
};
unsigned weight_features(const struct model_config *config);

/* Lengths of dimensions. */
enum weight_dim {
    DIM_NONE, /* 0 */
    DIM_ONE,  /* what has it for rows is a vector */
    DIM_V,
    DIM_D,
    DIM_F,
    DIM_Q,      /* H * E */
    DIM_KV,     /* K * E */
    DIM_Q_NORM, /* E or H * E */
    DIM_K_NORM, /* E or K * E */
    DIM_X,
    DIM_QKV,   /* (H + 2K) * E: q, k, v one after another */
    DIM_Q_K,   /* (H + K) * E */
    DIM_TWO_F, /* gate, then up */
};
int64_t weight_dim(const struct model_config *config, enum weight_dim dim);

/* One weight: whether a model has it, and its shape. */
struct weight_row {
    unsigned needs; /* features */
    enum weight_dim rows, cols;
};
extern const struct weight_row weight_rows[WEIGHT_COUNT];

/* One way in which files hold a weight: as a tensor of its own, or as rows of a larger one. */
struct weight_spelling {
    enum weight_id id;
    const char *name;      /* of layers: what follows "blk.7."; a %d is the expert's number */
    unsigned when, unless; /* features with and without which the name means this weight */
    bool stacked;          /* the tensor has one more dimension: X of these, one for each expert */
    enum weight_dim whole; /* rows of the tensor; DIM_NONE: those of the weight */
    enum weight_dim skip;  /* rows of it before the weight's own */
};

/* How one kind of file names the weights: of several spellings of a weight the first one that is
 * there with the right shape counts. */
struct weight_naming {
    const char *layer_prefix; /* "blk." */
    const char *bias_sign;    /* how it says that there are attention biases */
    const struct weight_spelling *spellings;
    int n_spellings;
};
extern const struct weight_naming weight_naming_gguf, weight_naming_hf;

/* source_bind - find every weight of source->config in the list, with the right shape and nothing
 * left over.  Sorts the list.  Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status source_bind(struct model_source *source, const struct weight_naming *naming,
                        struct tensor_list *list);

/* ---- formats -------------------------------------------------------------------------------- */

/* rope_scale_linear, rope_scale_llama3 - the divisors of a scaled RoPE, by llama 3's rule: long
 * waves are made longer, short ones are kept (rope.c). */
void rope_scale_linear(struct model_rope *rope, int E, double factor);
struct rope_llama3 {
    double factor, low, high, original_context;
};
void rope_scale_llama3(struct model_rope *rope, int E, const struct rope_llama3 *how);

/* gguf_load - fill source from a GGUF file in memory; data must outlive it.
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status gguf_load(struct model_source *source, const uint8_t *data, size_t n_bytes,
                      const char *origin);

/* gguf_load_vocab - only the vocabulary, of any family and of files without tensors. */
enum status gguf_load_vocab(struct model_source *source, const uint8_t *data, size_t n_bytes,
                            const char *origin);

/* safetensors_list - append the tensors of one file in memory to list, names in arena.
 * Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status safetensors_list(const uint8_t *data, size_t n_bytes, const char *origin,
                             struct arena *arena, struct tensor_list *list);
/* hf_config_parse - hyper-parameters from the text of a config.json.
 * hf_config_parse_generation - the ids that end an answer from the text of a
 * generation_config.json; config keeps its own if there are none.
 * Return ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status hf_config_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                            struct model_config *config);
/* hf_config_parse_all - the same, and the tower of a vision-language model; *out_sees: it is one.
 */
enum status hf_config_parse_all(const uint8_t *data, size_t n_bytes, const char *origin,
                                struct model_config *config, struct vision_config *vision,
                                bool *out_sees);
enum status hf_config_parse_generation(const uint8_t *data, size_t n_bytes, const char *origin,
                                       struct model_config *config);
/* hf_sampling_parse - sampling from the text of a generation_config.json; absent keys mean what
 * transformers takes them for.  Returns as hf_config_parse. */
enum status hf_sampling_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                              struct model_sampling *out);
/* hf_dir_load - fill source from its directory.  Also ST_IO. */
enum status hf_dir_load(struct model_source *source);

/* json_file_parse - one JSON object; duplicate keys are refused.  Returns ST_OK, ST_FORMAT. */
enum status json_file_parse(const uint8_t *data, size_t n_bytes, const char *origin,
                            json_t **out_object);

#endif

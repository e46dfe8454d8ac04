/*
 * tower.h - what the files of a vision tower share.  Private to this room.
 *
 *   vision_bind.c     the tensors of a file, whatever they are called, as struct tensor_view
 *   vision_weights.c  those packed, as struct vision_weights
 *   vision.c          from patches to embeddings
 *
 * The configuration is read by vision_config.c.
 */
#ifndef EPIDOTE_MODEL_TOWER_H
#define EPIDOTE_MODEL_TOWER_H

#include "model/source.h"

/* ---- tensors (vision_bind.c) ------------------------------------------------------------------ */

/* Each matrix or norm is followed by its bias.  m = merge, n = positions. */
enum tower_id {
    TOWER_PATCH, /* [D, vision_patch_elems] */
    TOWER_PATCH_BIAS,
    TOWER_CLASS,    /* [D] */
    TOWER_POSITION, /* [n, D] */
    TOWER_PRE_NORM, /* [D] */
    TOWER_PRE_NORM_BIAS,
    TOWER_POST_NORM, /* [D] */
    TOWER_POST_NORM_BIAS,
    TOWER_MERGE_NORM, /* [D]; qwen2vl */
    TOWER_MERGE_NORM_BIAS,
    TOWER_PROJECTOR_1, /* [D_out, D], of qwen2vl [m*m*D, m*m*D]; idefics3 has none */
    TOWER_PROJECTOR_1_BIAS,
    TOWER_PROJECTOR_2, /* [D_out, D_out], of the others [D_out, m*m*D] */
    TOWER_PROJECTOR_2_BIAS,
    TOWER_NORM_1, /* from here on once a layer: [D] */
    TOWER_NORM_1_BIAS,
    TOWER_Q, /* [D, D] */
    TOWER_Q_BIAS,
    TOWER_K,
    TOWER_K_BIAS,
    TOWER_V,
    TOWER_V_BIAS,
    TOWER_O,
    TOWER_O_BIAS,
    TOWER_NORM_2, /* [D] */
    TOWER_NORM_2_BIAS,
    TOWER_FC_1, /* [F, D] */
    TOWER_FC_1_BIAS,
    TOWER_FC_2, /* [D, F] */
    TOWER_FC_2_BIAS,
    TOWER_COUNT
};

static inline bool tower_of_layer(enum tower_id id)
{
    return id >= TOWER_NORM_1;
}

static inline size_t tower_place(enum tower_id id, int layer)
{
    return tower_of_layer(id) ? (size_t)layer * (TOWER_COUNT - TOWER_NORM_1) + id : id;
}

/* Of tensors that are used. */
static inline size_t tower_n_views(const struct vision_config *c)
{
    return tower_place(TOWER_NORM_1, c->L);
}

/* tower_tensor - NULL: this tower has none. */
const struct tensor_view *tower_tensor(const struct model_source *source, enum tower_id id,
                                       int layer);
/* tower_rename - names of all tensors as if the decoder's were those of a text model, and the
 * others "tower." and "projector."; whatever version of transformers wrote them.
 * Returns ST_OK, ST_NOMEM. */
enum status tower_rename(const struct model_source *source, struct tensor_list *list);
/* tower_bind - find every tensor of the tower in a sorted list; those that are of no use are
 * marked, too.  Returns ST_OK, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status tower_bind(struct model_source *source, const struct tensor_list *list);
/* tower_hash - the configuration and, whole or only their first rows, the tensors. */
void tower_hash(const struct model_source *source, bool whole, struct hash_state *state);
/* tower_inspect - lines for model_inspect. */
enum status tower_inspect(const struct model_source *source, struct buf *out);

/* ---- weights (vision_weights.c) ---------------------------------------------------------------- */

/* Numbers that a position embedding has a row for. */
static inline int tower_n_positions(const struct vision_config *c)
{
    return c->layout == VISION_QWEN2VL ? 0 : c->grid * c->grid + c->class_token;
}

/* Heads are filled up with zeros to whole lanes.  Those of q and k that turn are filled up in both
 * halves, so that pairs stay half a head apart. */
static inline int tower_head(const struct vision_config *c)
{
    return (c->E + OPS_LANES - 1) / OPS_LANES * OPS_LANES;
}

struct tower_layer {
    float *norm_1, *norm_1_bias, *norm_2, *norm_2_bias; /* [D] */
    struct ops_matrix qkv;                              /* [3 * H * head, D] */
    struct ops_matrix o;                                /* [D, H * head] */
    struct ops_matrix fc_1, fc_2;                       /* [F, D], [D, F] */
    float *qkv_bias, *o_bias, *fc_1_bias, *fc_2_bias;
};

/* What a tower does not have is NULL, and a matrix of no rows; every projector has biases, which
 * may be zero. */
struct vision_weights {
    enum ops_type type; /* of matrices; vectors are float32, all but norms rounded to it */
    int L;
    struct ops_matrix patch; /* [D, elems] */
    float *patch_bias;       /* [D] */
    float *class_token;      /* [D] */
    float *position;         /* [n, D] */
    float *pre_norm, *pre_norm_bias, *post_norm, *post_norm_bias, *merge_norm, *merge_norm_bias;
    struct ops_matrix projector_1, projector_2;
    float *projector_1_bias, *projector_2_bias;
    struct tower_layer *layers; /* [L] owned */
    uint8_t *pages;             /* all of the above lies here */
    size_t pages_bytes;
    bool pages_owned;
};

#endif

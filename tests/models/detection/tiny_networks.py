"""Configurations of the real transformers classes, small enough for a test: random weights, a few thousand numbers."""

SWIN = {"model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
        "window_size": 2, "out_features": ["stage2", "stage3", "stage4"]}  # fmt: skip
BERT = {"model_type": "bert", "vocab_size": 1100, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 64}  # fmt: skip
CLIP_TEXT = {"vocab_size": 600, "bos_token_id": 598, "eos_token_id": 599,
             "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 16}  # fmt: skip
CLIP_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
               "image_size": 64, "patch_size": 16}  # fmt: skip
GROUNDING = {"backbone_config": SWIN, "text_config": BERT, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2,
             "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
             "num_queries": 12, "max_text_len": 48}  # fmt: skip
OWL = {"text_config": CLIP_TEXT, "vision_config": CLIP_VISION, "projection_dim": 16}
OMDET = {"backbone_config": SWIN,
         "text_config": {"model_type": "clip_text_model", **CLIP_TEXT, "max_position_embeddings": 24},
         "apply_layernorm_after_vision_backbone": False,
         "text_projection_in_dim": 16, "text_projection_out_dim": 16, "task_encoder_hidden_dim": 16,
         "class_embed_dim": 16, "num_queries": 12, "encoder_hidden_dim": 32, "decoder_hidden_dim": 32,
         "vision_features_channels": [32, 32, 32], "encoder_in_channels": [16, 32, 64], "encoder_attention_heads": 2,
         "encoder_dim_feedforward": 32, "decoder_num_heads": 2, "decoder_num_layers": 2,
         "decoder_dim_feedforward": 32}  # fmt: skip
DETR = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SAM3 = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "window_size": 2,
            "global_attn_indexes": [1],
            "pretrain_image_size": 28,
        },
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    },
    "text_config": {"model_type": "clip_text_model", **CLIP_TEXT, "projection_dim": 16},
    "geometry_encoder_config": {**DETR},
    "detr_encoder_config": {**DETR},
    "detr_decoder_config": {**DETR, "num_queries": 8},
    "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
}
CONFIGS = {
    "grounding-dino": GROUNDING,
    "mm-grounding-dino": GROUNDING,
    "owlv2": OWL,
    "owlvit": OWL,
    "omdet-turbo": OMDET,
    "sam3": SAM3,
}
PROMPT = {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
MASK_DECODER = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
SAM = {
    "vision_config": {"hidden_size": 16, "output_channels": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [0],
                      "num_pos_feats": 16},
    "prompt_encoder_config": PROMPT,
    "mask_decoder_config": MASK_DECODER,
}  # fmt: skip
SAM2 = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 8,
            "num_attention_heads": 1,
            "image_size": [64, 64],
            "blocks_per_stage": [1, 2, 1, 1],
            "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 2, 2],
            "window_size_per_stage": [4, 4, 4, 4],
            "global_attention_blocks": [2],
        },
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    },
    "prompt_encoder_config": PROMPT,
    "mask_decoder_config": MASK_DECODER,
}
SAM3_TRACKER = {
    "vision_config": SAM3["vision_config"] | {"model_type": "sam3_vision_model"},
    "prompt_encoder_config": {**PROMPT, "image_size": 56, "patch_size": 14},
    "mask_decoder_config": MASK_DECODER,
}
SEGMENTERS = {"sam": SAM, "sam2": SAM2, "sam3_tracker": SAM3_TRACKER}

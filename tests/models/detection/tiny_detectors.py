"""Options of every trainable detector, small enough for a test: random weights, a few thousand numbers."""

from tests.models.detection.tiny_networks import CONFIGS

RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
          "layer_type": "basic"}  # fmt: skip
HGNET = {"model_type": "hgnet_v2", "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 32],
         "stage_mid_channels": [8, 8, 8, 8], "stage_out_channels": [16, 16, 32, 32], "stage_num_blocks": [1, 1, 1, 1],
         "stage_numb_of_layers": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1],
         "embedding_size": 8, "out_indices": [2, 3, 4]}  # fmt: skip
LAYERS = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
          "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 12}  # fmt: skip
RTDETR = {**LAYERS, "encoder_hidden_dim": 32, "d_model": 32, "decoder_in_channels": [32, 32, 32], "num_denoising": 4,
          "backbone_config": {"model_type": "rt_detr_resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
                              "depths": [1, 1, 1, 1], "layer_type": "basic", "out_indices": [2, 3, 4]},
          "encoder_in_channels": [8, 16, 16]}  # fmt: skip
DFINE = {**RTDETR, "backbone_config": HGNET, "encoder_in_channels": [16, 32, 32], "decoder_n_points": 2,
         "max_num_bins": 8, "top_prob_values": 2, "lqe_hidden_dim": 8}  # fmt: skip
WINDOWED = {"decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_self_attention_heads": 2, "group_detr": 2,
            "decoder_cross_attention_heads": 2, "d_model": 32, "num_queries": 12, "c2f_num_blocks": 1}  # fmt: skip
VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "out_indices": [1, 3]}
TRANSFORMERS = {
    "rt_detr": RTDETR,
    "rt_detr_v2": RTDETR,
    "d_fine": DFINE,
    "deimv2": DFINE,
    "detr": {**LAYERS, "d_model": 32, "backbone_config": {**RESNET, "out_features": ["stage4"]}},
    "conditional_detr": {**LAYERS, "d_model": 32, "backbone_config": {**RESNET, "out_features": ["stage4"]}},
    "dab-detr": {**LAYERS, "hidden_size": 32, "backbone_config": {**RESNET, "out_features": ["stage4"]}},
    "deformable_detr": {**LAYERS, "d_model": 32, "num_feature_levels": 3, "encoder_n_points": 2,
                        "backbone_config": {**RESNET, "out_features": ["stage2", "stage3", "stage4"]}},
    "yolos": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
              "image_size": [64, 64], "patch_size": 16, "num_detection_tokens": 12},
    "lw_detr": {**WINDOWED, "projector_scale_factors": [1.0],
                "backbone_config": {"model_type": "lw_detr_vit", **VIT, "image_size": 64, "pretrain_image_size": 64,
                                    "num_windows": 4, "window_block_indices": [0]}},
    "rf_detr": {**WINDOWED,
                "backbone_config": {"model_type": "rf_detr_dinov2", **VIT, "image_size": 64, "patch_size": 8,
                                    "num_windows": 2}},
}  # fmt: skip
_TORCHVISION = {"backbone": "resnet10t", "width": 32, "score_floor": 0.001}
_OPEN = {"backbone_lr": 0.1, "score_floor": 0.0, "checkpoint": "owner/tiny"}
OPTIONS = {
    "compact": {"_target_": "src.models.detection.compact.CompactDetector", "backbone": "resnet10t", "width": 16,
                "depth": 1, "score_floor": 0.001},
    "detic": {"_target_": "src.models.detection.detic.DeticDetector", "backbone": "test_resnet", "strides": [8, 16],
              "width": 16, "depth": 1, "text_encoder": "owner/clip", "text_weights": None, "embedding_width": 16,
              "template": "a photo of a {}", "score_floor": 0.001},
    "faster_rcnn": {"_target_": "src.models.detection.torchvision_detector.FasterRcnnDetector", **_TORCHVISION,
                    "head_width": 32},
    "fcos": {"_target_": "src.models.detection.torchvision_detector.FcosDetector", **_TORCHVISION, "depth": 1},
    "retinanet": {"_target_": "src.models.detection.torchvision_detector.RetinaNetDetector", **_TORCHVISION},
    "fcos on torchvision's mobilenet": {"_target_": "src.models.detection.torchvision_detector.FcosDetector",
                                        **_TORCHVISION, "depth": 1, "backbone": "torchvision/mobilenet_v3_small"},
    **{name: {"_target_": "src.models.detection.transformers_detector.TransformersDetector", "architecture": name,
              "checkpoint": "owner/tiny", "config": config, "score_floor": 0.0}
       for name, config in TRANSFORMERS.items()},
    **{name: {"_target_": "src.models.detection.open_vocabulary.OpenVocabularyDetector", "architecture": name,
              "config": CONFIGS[name], **_OPEN} for name in ("grounding-dino", "owlv2", "omdet-turbo")},
    **{name: {"_target_": "src.models.detection.ultralytics_detector.UltralyticsDetector", "architecture": name,
              "trust_pickle": False, "score_floor": 0.001} for name in ("yolov8n", "yolo26n")},
}  # fmt: skip

"""Annotated objects of a detection competition, one reader a file: COCO, VOC, YOLO, tables of boxes and of counts."""

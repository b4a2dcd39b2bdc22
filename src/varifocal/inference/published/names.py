"""The published weights of the authors and of mmdetection, under the names of the recipes here."""

from __future__ import annotations

# The last eight digits of a file name are those that begin its SHA-256.
FILES: dict[str, str] = {
    "vfnet_r50_1x": "vfnet_r50_fpn_1x_coco_20201027-38db6f58.pth",
    "vfnet_r50_ms_2x": "vfnet_r50_fpn_mstrain_2x_coco_20201027-7cc75bd2.pth",
    "vfnet_r50_mdconv_ms_2x": "vfnet_r50_fpn_mdconv_c3-c5_mstrain_2x_coco_20201027pth-6879c318.pth",
    "vfnet_r101_1x": "vfnet_r101_fpn_1x_coco_20201027pth-c831ece7.pth",
    "vfnet_r101_ms_2x": "vfnet_r101_fpn_mstrain_2x_coco_20201027pth-4a5d53f1.pth",
    "vfnet_r101_mdconv_ms_2x": "vfnet_r101_fpn_mdconv_c3-c5_mstrain_2x_coco_20201027pth-7729adb5.pth",
    "vfnet_x101_32x4d_mdconv_ms_2x": "vfnet_x101_32x4d_fpn_mdconv_c3-c5_mstrain_2x_coco_20201027pth-d300a6fc.pth",
    "vfnet_x101_64x4d_mdconv_ms_2x": "vfnet_x101_64x4d_fpn_mdconv_c3-c5_mstrain_2x_coco_20201027pth-b5f6da5e.pth",
    "vfnet_r50_1x_tta": "vfnet_r50_fpn_1x_coco_20201027-38db6f58.pth",
    "atss_r50_1x": "atss_r50_fpn_1x_coco_20200209-985f7bd0.pth",
    "fcos_r50_1x": "fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth",
    "fcos_r50_ms_2x": "fcos_r50_caffe_fpn_gn-head_mstrain_640-800_2x_coco-d92ceeea.pth",
    "fcos_improved_r50_1x": "fcos_center-normbbox-centeronreg-giou_r50_caffe_fpn_gn-head_1x_coco-0a0d75a8.pth",
    "foveabox_r50_1x": "fovea_r50_fpn_4x4_1x_coco_20200219-ee4d5303.pth",
    "gfl_r50_1x": "gfl_r50_fpn_1x_coco_20200629_121244-25944287.pth",
    "gfl_r50_ms_2x": "gfl_r50_fpn_mstrain_2x_coco_20200629_213802-37bb1edc.pth",
    "reppoints_r50_1x": "reppoints_moment_r50_fpn_gn-neck+head_1x_coco_20200329-4b38409a.pth",
    "retinanet_r50_1x": "retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth",
}


def family_of(name: str) -> str:
    """Return the folder of a recipe's detector on mmdetection's server."""
    return name.partition("_")[0]

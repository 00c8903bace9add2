"""An ablation of 3D_FCN_PPM: what each part of the method is worth on painted cases, over patients and seeds."""

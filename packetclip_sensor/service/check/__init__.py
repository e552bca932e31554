"""The configuration and what stands around the sensor in; a line for each part that is well, wrong or worth a look out."""

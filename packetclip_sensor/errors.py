"""The sensor's errors. Each message names the thing, its value and the remedy; the command line prints it and exits with 2."""


class SensorError(Exception):
    """Something a user can mend: printed as one line, never as a traceback."""


class ConfigError(SensorError):
    """The configuration file or an argument is wrong."""


class LogFormatError(SensorError):
    """A log line or a log folder is not what the sensor reads."""


class ModelBundleError(SensorError):
    """The model bundle is missing, damaged or of another version."""


class SinkError(SensorError):
    """The place where alerts go refuses them for good: credentials, mapping, rights."""

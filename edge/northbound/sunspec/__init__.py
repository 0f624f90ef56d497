"""SunSpec Modbus northbound: the site and its strings as SunSpec devices over Modbus TCP."""

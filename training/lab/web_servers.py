"""The web server of a capture: nginx, apache or lighttpd, each with the same content, TLS, a locked folder and an application.

They differ in what an attack on connections meets: apache answers a request that is not asked in time (408), nginx and lighttpd
close the connection; how long each waits is the service's option `patience`, in seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

APP = "http://127.0.0.1:5000/"


def nginx(work: Path, root: Path, shared: Path, port: int, options: dict[str, Any]) -> list[str]:
    """Write the configuration; returns the command."""
    temps = "".join(f"{kind}_temp_path {work}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    patience = options.get("patience", 60)
    text = f"""user root; worker_processes 1; pid {work}/pid; error_log /dev/null crit;
events {{ worker_connections {options.get("connections", 1024)}; }}
http {{ access_log off; {temps} server_tokens {options.get("tokens", "on")}; include /etc/nginx/mime.types;
keepalive_timeout {options.get("keepalive", 65)}; client_header_timeout {patience};
client_body_timeout {patience}; client_max_body_size 50m;
server {{ listen {port}; listen [::]:{port}; listen 443 ssl; listen [::]:443 ssl;
ssl_certificate {shared}/tls.pem; ssl_certificate_key {shared}/tls.key; root {root};
location / {{ autoindex on; }}
location /admin/ {{ auth_basic "lab"; auth_basic_user_file {work}/htpasswd; }}
location /app/ {{ proxy_pass {APP}; proxy_request_buffering off; }} }} }}
"""
    (work / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(work), "-c", str(work / "nginx.conf"), "-g", "daemon off;"]


def apache(work: Path, root: Path, shared: Path, port: int, options: dict[str, Any]) -> list[str]:
    """Write the configuration; returns the command. Its content must be readable for the user it runs as."""
    modules = "mpm_event authn_core authn_file authz_core authz_user auth_basic access_compat alias autoindex deflate dir mime "
    modules += "proxy proxy_http reqtimeout ssl status"
    loaded = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules.split())
    patience = options.get("patience", 20)
    text = f"""ServerRoot {work}
PidFile {work}/pid
ErrorLog /dev/null
ServerName lab.test
User nobody
Group nogroup
Listen {port}
Listen 443
{loaded}
TypesConfig /etc/mime.types
StartServers 2
MaxRequestWorkers {options.get("connections", 1024) // 64 * 64}
ServerLimit {options.get("connections", 1024) // 64}
ThreadsPerChild 64
ThreadLimit 64
ServerTokens {"Full" if options.get("tokens", "on") == "on" else "Prod"}
KeepAliveTimeout {options.get("keepalive", 5)}
RequestReadTimeout header={patience}-{2 * patience},MinRate=500 body={patience},MinRate=500
DocumentRoot {root}
<Directory {root}>
  Options Indexes
  Require all granted
</Directory>
<Location /admin/>
  AuthType Basic
  AuthName "lab"
  AuthUserFile {work}/htpasswd
  Require valid-user
</Location>
ProxyPass /app/ {APP}
<VirtualHost *:443>
  SSLEngine on
  SSLCertificateFile {shared}/tls.pem
  SSLCertificateKeyFile {shared}/tls.key
  ProxyPass /app/ {APP}
</VirtualHost>
"""
    (work / "apache.conf").write_text(text)
    return ["apache2", "-DFOREGROUND", "-f", str(work / "apache.conf")]


def lighttpd(work: Path, root: Path, shared: Path, port: int, options: dict[str, Any]) -> list[str]:
    """Write the configuration; returns the command."""
    patience = options.get("patience", 60)
    text = f"""server.modules = ( "mod_auth", "mod_authn_file", "mod_proxy", "mod_dirlisting", "mod_openssl" )
server.document-root = "{root}"
server.port = {port}
server.errorlog = "/dev/null"
server.upload-dirs = ( "{work}" )
server.max-connections = {options.get("connections", 1024)}
server.max-keep-alive-idle = {options.get("keepalive", 5)}
server.max-read-idle = {patience}
server.tag = "{"lighttpd" if options.get("tokens", "on") == "off" else "lighttpd/1.4"}"
index-file.names = ( "index.html" )
dir-listing.activate = "enable"
mimetype.assign = ( ".html" => "text/html", ".txt" => "text/plain", ".jpg" => "image/jpeg", "" => "application/octet-stream" )
auth.backend = "htpasswd"
auth.backend.htpasswd.userfile = "{work}/htpasswd"
auth.require = ( "/admin/" => ( "method" => "basic", "realm" => "lab", "require" => "valid-user" ) )
$HTTP["url"] =~ "^/app/" {{
  proxy.server = ( "" => (( "host" => "127.0.0.1", "port" => 5000 )) )
  proxy.header = ( "map-urlpath" => ( "/app/" => "/" ) )
}}
$SERVER["socket"] == "[::]:{port}" {{ }}
$SERVER["socket"] == ":443" {{
  ssl.engine = "enable"
  ssl.pemfile = "{shared}/tls.pem"
  ssl.privkey = "{shared}/tls.key"
}}
"""
    (work / "lighttpd.conf").write_text(text)
    return ["lighttpd", "-D", "-f", str(work / "lighttpd.conf")]


SOFTWARE = {"nginx": nginx, "apache": apache, "lighttpd": lighttpd}

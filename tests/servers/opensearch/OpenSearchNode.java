import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.opensearch.Version;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;

/** Runs one real OpenSearch node on loopback: OpenSearchNode HOME HTTP_PORT TRANSPORT_PORT DATA KIND. */
public class OpenSearchNode extends Node {
  OpenSearchNode(Environment environment, List<PluginInfo> plugins) {
    super(environment, plugins, false);
  }

  public static void main(String[] args) throws Exception {
    Path home = Path.of(args[0]).toAbsolutePath();
    boolean secure = args[4].endsWith("-security");
    Settings.Builder builder =
        Settings.builder()
            .put("path.home", home.toString())
            .put("path.data", args[3])
            .put("cluster.name", "packetclip-test")
            .put("node.name", "packetclip-test")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", args[1])
            .put("transport.port", args[2])
            .put("cluster.routing.allocation.disk.threshold_enabled", false);
    if (secure) {
      builder
          .put("plugins.security.ssl.transport.pemcert_filepath", "node.pem")
          .put("plugins.security.ssl.transport.pemkey_filepath", "node.key")
          .put("plugins.security.ssl.transport.pemtrustedcas_filepath", "node.pem")
          .put("plugins.security.ssl.transport.enforce_hostname_verification", false)
          .put("plugins.security.ssl.http.enabled", false)
          .put("plugins.security.allow_default_init_securityindex", true)
          .put("plugins.security.audit.type", "noop")
          .putList("plugins.security.nodes_dn", "CN=packetclip-test")
          .putList("plugins.security.restapi.roles_enabled", "all_access");
    } else {
      builder.put("transport.type", "netty4").put("http.type", "netty4");
    }
    Settings settings = builder.build();
    Environment environment =
        InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), home.resolve("config"), () -> "packetclip-test");
    List<PluginInfo> plugins =
        Stream.of(
                "org.opensearch.transport.Netty4ModulePlugin",
                "org.opensearch.ingest.common.IngestCommonModulePlugin",
                "org.opensearch.analysis.common.CommonAnalysisModulePlugin",
                "org.opensearch.painless.PainlessModulePlugin",
                secure ? "org.opensearch.security.OpenSearchSecurityPlugin" : "")
            .filter(name -> !name.isEmpty())
            .map(name -> new PluginInfo(name, "", "", Version.CURRENT, "21", name, null, List.of(), false))
            .collect(Collectors.toList());
    new OpenSearchNode(environment, plugins).start();
    System.out.println("ready on 127.0.0.1:" + args[1]);
    new CountDownLatch(1).await();
  }
}

import { isIPv6 } from 'node:net'

export interface RegistryOptions {
  /** Where it listens: the host's mesh address. */
  readonly address: string
  readonly port: number
  /** Images lie here. */
  readonly dataDir: string
  /** PEM files, readable when it starts: certificate (with its address as subject alternative name) and key. */
  readonly certificate: string
  readonly key: string
  /** PEM file that the server writes: tokens signed by a certificate in it are believed. Must exist when it starts. */
  readonly tokenBundle: string
  /** `https://<public address>:4280` of the server: where clients are sent for a token. */
  readonly apiUrl: string
}

/**
 * The configuration of Debian's docker-registry. It writes its log to standard error: whoever runs it chooses the file. Starts only
 * once the server has written `tokenBundle`; until then it ends at once and is started again by its keeper.
 */
export function registryConfig(options: RegistryOptions): string {
  const address = isIPv6(options.address) ? `[${options.address}]` : options.address
  // JSON is YAML, and quotes what needs quoting.
  return `${JSON.stringify(
    {
      version: '0.1',
      log: {
        level: 'warn',
        formatter: 'json',
        accesslog: { disabled: true },
        fields: { program: 'registry' },
      },
      storage: {
        filesystem: { rootdirectory: options.dataDir, maxthreads: 100 },
        delete: { enabled: true },
        // The server does that, who knows which pushes are at work. It removes blobs too: the registry must not remember
        // (`cache`) that one is there.
        maintenance: { uploadpurging: { enabled: false } },
      },
      http: {
        addr: `${address}:${options.port}`,
        secret: 'one process',
        // On SIGTERM; then what still uploads is cut off and begins anew.
        draintimeout: '5s',
        tls: { certificate: options.certificate, key: options.key, minimumtls: 'tls1.2' },
        headers: { 'X-Content-Type-Options': ['nosniff'] },
      },
      auth: {
        token: {
          realm: `${options.apiUrl.replace(/\/+$/, '')}/api/v1/registry/token`,
          service: 'registry.internal',
          issuer: 'roost',
          rootcertbundle: options.tokenBundle,
        },
      },
      health: { storagedriver: { enabled: true, interval: '30s', threshold: 3 } },
    },
    null,
    2,
  )}\n`
}

export function registryArgv(configFile: string): readonly [string, ...string[]] {
  return ['/usr/bin/docker-registry', 'serve', configFile]
}

import { join } from 'node:path'

/** An authority that orders are sent to, whose terms whoever chose it agrees to. */
export interface AcmeChoice {
  readonly directory: string
  readonly email: string | null
}

/** Everything that is fixed about a host before it is raised. Saved beside its files, so that it can be started again from them. */
export interface HostSpec {
  /** One per machine for a real host, one per playground: unique on this kernel. At most 11 small letters and digits. */
  readonly installation: string
  /** How the others call it, and how its folders are called. */
  readonly name: string
  readonly region: string
  /** Network namespace it lives in, by name; null: this machine's own. */
  readonly netns: string | null
  /** Where strangers reach it. */
  readonly publicAddress: string
  /** The same as this machine sees it (behind a NAT they differ). */
  readonly listenAddress: string
  readonly dataDir: string
  readonly runDir: string
  /** Interface by which machines reach the internet; null: they don't. */
  readonly uplink: string | null
  readonly nameservers: readonly string[]
  /** Unique on this kernel: the sockets of user-space WireGuard all lie in one folder. */
  readonly wireguard: { readonly interface: string; readonly port: number }
  readonly capacity: { readonly cpus: number; readonly memoryMb: number }
  /** Of HAProxy; missing: as many as processors. */
  readonly proxyThreads?: number
  readonly builder: boolean
  /** Runs containerd in a mount namespace of its own, so that all its mounts vanish with it. */
  readonly ownMounts: boolean
  /** The host that also runs the server. */
  readonly server: {
    readonly domain: string
    readonly clientNetworks: readonly { readonly cidr: string; readonly region: string }[]
    /** Where certificates for names of people's own are ordered; absent: nowhere. */
    readonly acme?: AcmeChoice | null
    /** The administrator's token is written here, 0600. */
    readonly tokenFile: string
  } | null
}

/** Where things of one host lie. Unix sockets have at most 107 characters, so folders on the way to them are short. */
export interface HostLayout {
  readonly configDir: string
  readonly keyDir: string
  readonly logDir: string
  readonly pidDir: string
  readonly containerd: {
    readonly root: string
    readonly state: string
    readonly socket: string
    readonly config: string
  }
  readonly dataDirOf: (program: string) => string
  readonly runDirOf: (program: string) => string
  readonly configOf: (program: string) => string
  readonly certificateOf: (program: string) => string
  readonly keyOf: (program: string) => string
  readonly ca: string
  readonly wireguardKey: string
  readonly sealingKey: string
  readonly specFile: string
  /** Raw logs of machines: a file system of its own is mounted here. */
  readonly rawLogs: string
  readonly builderNetns: string
  readonly cgroupParent: string
  /** Parent of the cgroups of the host's own programs. Not below that of machines: who looks there finds machines. */
  readonly programsCgroup: string
  readonly owner: string
}

export function layoutOf(spec: HostSpec): HostLayout {
  const keyDir = join(spec.dataDir, 'keys')
  const configDir = join(spec.dataDir, 'config')
  return {
    configDir,
    keyDir,
    logDir: join(spec.dataDir, 'log'),
    pidDir: join(spec.runDir, 'pid'),
    containerd: {
      root: join(spec.dataDir, 'containerd'),
      state: join(spec.runDir, 'containerd'),
      socket: join(spec.runDir, 'containerd.sock'),
      config: join(configDir, 'containerd.toml'),
    },
    dataDirOf: (program) => join(spec.dataDir, program),
    runDirOf: (program) => join(spec.runDir, program),
    configOf: (program) => join(configDir, `${program}.json`),
    certificateOf: (program) => join(keyDir, `${program}.crt`),
    keyOf: (program) => join(keyDir, `${program}.key`),
    ca: join(keyDir, 'ca.crt'),
    wireguardKey: join(keyDir, 'wireguard.key'),
    sealingKey: join(keyDir, 'sealing.json'),
    specFile: join(spec.dataDir, 'host.json'),
    rawLogs: join(spec.runDir, 'logs'),
    builderNetns: `${spec.installation}-${spec.name}-build`,
    cgroupParent: `/roost/${spec.installation}/${spec.name}`,
    // No name of a host has a dot.
    programsCgroup: `/roost/${spec.installation}/${spec.name}.programs`,
    owner: `${spec.installation}/${spec.name}`,
  }
}

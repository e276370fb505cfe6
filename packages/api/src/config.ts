import type { Host } from '@roost/core'
import { z } from 'zod'

/** The files that `roost up` and the playground write and the programs read, one per program: `--config FILE`. Paths are absolute. */

const tls = z.object({ ca: z.string(), certificate: z.string(), key: z.string() })
const endpoint = z.object({ address: z.string(), port: z.int().min(0).max(65535) })

export const serverConfig = z.object({
  /** SQLite, authority, keys, tokens. */
  dataDir: z.string(),
  domain: z.string(),
  /** HTTPS for people and scripts. Listens on each address. */
  api: z.object({
    addresses: z.array(z.string()).min(1),
    port: z.int(),
    hostnames: z.array(z.string()),
  }),
  /** mTLS for agents and edges, on the mesh address (and `0.0.0.0` works: the certificate decides). */
  internal: endpoint,
  /** The URL under which agents and edges reach `internal`. */
  internalUrl: z.string(),
  registry: z.object({
    /** Name in image references. */
    name: z.string().default('registry.internal'),
    /** HTTPS URL on the mesh. */
    url: z.string(),
    /** The server writes the certificate bundle that the registry checks tokens with here. */
    tokenBundle: z.string(),
    /** Where its images lie on this machine; absent: nothing is collected. */
    dataDir: z.string().nullish(),
  }),
  clientNetworks: z.array(z.object({ cidr: z.string(), region: z.string() })).default([]),
  /** Where certificates for names of people's own are ordered; absent: nowhere. */
  acme: z
    .object({
      directory: z.url(),
      email: z.string().nullish(),
      /** File in PEM: an authority within the house whose HTTPS the system does not trust. */
      ca: z.string().nullish(),
    })
    .nullish(),
  /** The first start writes an administrator's token here, 0600. */
  tokenFile: z.string(),
  logFile: z.string().optional(),
})
export type ServerConfig = z.infer<typeof serverConfig>

export const agentConfig = z.object({
  hostId: z.string(),
  hostName: z.string(),
  hostNumber: z.int().min(1).max(63),
  region: z.string(),
  /** SQLite, keys. On disk, survives. */
  dataDir: z.string(),
  /** Files of images that the host's edge serves. On disk; default: below `dataDir`. */
  staticsDir: z.string().optional(),
  /** Sockets and secrets. Must be on tmpfs; the agent refuses otherwise. */
  runDir: z.string(),
  serverUrl: z.string(),
  /** The hosts that there were when this one joined: the way to the server leads over the mesh, before it has said anything. */
  knownHosts: z.array(z.custom<Host>((v) => typeof v === 'object' && v !== null)).default([]),
  tls,
  /** Its own RPC, on the mesh address. */
  listen: endpoint,
  containerd: z.object({
    /** Path of the socket. */
    address: z.string(),
    namespace: z.string().default('roost'),
    /** Its images and root file systems, to know how full that disk is. Absent: on the disk of `dataDir`. */
    root: z.string().optional(),
  }),
  /** Parent of all machines' cgroups, unique on this kernel: `/roost/<installation>/<host>`. */
  cgroupParent: z.string(),
  /** Control group that machines' shims are put into, made by whoever starts containerd. */
  shimCgroup: z.string().optional(),
  wireguard: z.object({
    /** At most 15 characters, unique on this kernel. */
    interface: z.string().max(15),
    listenPort: z.int(),
    privateKeyFile: z.string(),
  }),
  sealingKeyFile: z.string(),
  /** Interface by which machines reach the internet (masqueraded); null: they don't. */
  uplink: z.string().nullable(),
  /** DNS resolvers for machines. */
  nameservers: z.array(z.string()),
  /** Raw logs: a file system of their own is made here. Bytes. */
  logs: z.object({ dir: z.string(), sizeMb: z.int().default(256) }),
  /** Builds run here when set, in a network namespace of their own. */
  builder: z
    .object({
      dataDir: z.string(),
      netns: z.string(),
      /** All builds together; one that needs more fails. Default: half of this machine's, at least 512. */
      memoryMb: z.int().optional(),
    })
    .nullable(),
  logFile: z.string().optional(),
})
export type AgentConfig = z.infer<typeof agentConfig>

export const edgeConfig = z.object({
  hostId: z.string(),
  hostName: z.string(),
  region: z.string(),
  dataDir: z.string(),
  runDir: z.string(),
  serverUrl: z.string(),
  /** The host's sealing key: with it, private keys of certificates are opened. Absent: there are none of people's own here. */
  sealingKeyFile: z.string().optional(),
  /** Resolvers with which delegations of names are looked up; absent: the system's. `address` or `address:port`. */
  nameservers: z.array(z.string()).optional(),
  tls,
  http: endpoint,
  https: endpoint,
  /** The first of six ports on the address of `http`, to which the host's rules lead what comes to any other port. */
  servicePorts: z.int().min(1).max(65530).default(4284),
  /** Public DNS for the domain; UDP and TCP. */
  dns: endpoint,
  /** Where this edge answers the other edges' probes: mTLS on the mesh. */
  listen: endpoint,
  /** Files of images, as the agent copied them, and where other hosts' edges ask for them: plain HTTP on the mesh. Absent: none are served. */
  statics: z.object({ dir: z.string(), listen: endpoint }).optional(),
  haproxy: z
    .object({
      binary: z.string().default('/usr/sbin/haproxy'),
      slots: z.int().default(200),
      maxConnections: z.int().default(4000),
      /**
       * Missing: as many as processors. Fewer where several HAProxies share them: its threads wait for each other's locks by spinning,
       * and one that is not running while it holds one keeps the others at it.
       */
      threads: z.int().min(1).optional(),
      /**
       * HAProxy outlives the edge program, so that a restart disturbs nobody: its master's process id is in
       * `<runDir>/haproxy.pid`, SIGTERM ends it. True: the edge ends it when it is itself told to stop.
       */
      stopOnExit: z.boolean().default(false),
      /** Control group that it runs in, made by whoever starts the edge; without it, the edge's own. */
      cgroup: z.string().optional(),
    })
    .prefault({}),
  logFile: z.string().optional(),
})
export type EdgeConfig = z.infer<typeof edgeConfig>

import {
  accessLine,
  appStatusReply,
  appTrafficReply,
  certificateReply,
  certificateSummary,
  collectImagesReply,
  doctorReply,
  hostReply,
  imageStoreReply,
  logLine,
  regionReply,
  releaseEvent,
  releasePlanStep,
  releaseReply,
  rollbackReply,
  sessionReply,
  tokenReply,
} from '@roost/api'
import { z } from 'zod'
import type { DeployResult } from './deploy/deployment.ts'
import type { RunningProgram } from './host/programs.ts'
import type { HostStatus } from './host/real-host.ts'
import type { MirroredImage } from './mirror/seed.ts'
import type { PlaygroundStatus } from './playground/status.ts'
import type { Faults } from './playground/wan/links.ts'

/**
 * What `--json` of each command prints, for those who write scripts: a field that is here stays, and keeps its meaning; others
 * may be added. No command that has `--json` is missing.
 */
const app = z.strictObject({ name: z.string(), status: z.string(), machines: z.number() })
const check = z.strictObject({ name: z.string(), status: z.string(), output: z.string() })
export const machineShape = z.strictObject({
  id: z.string(),
  name: z.string(),
  state: z.string(),
  group: z.string(),
  region: z.string(),
  host: z.string(),
  image: z.string(),
  size: z.string(),
  checks: z.array(check),
  private_ip: z.string(),
  version: z.string().optional(),
  created_at: z.string(),
  updated_at: z.string(),
})
/** null: with `--no-wait`, nobody knows yet. */
const reached = (state: string) =>
  z.array(z.strictObject({ id: z.string(), state: z.literal(state).nullable() }))
const cordoned = (is: boolean) =>
  z.array(z.strictObject({ id: z.string(), cordoned: z.literal(is) }))
const release = z.strictObject(releaseReply.shape)
const token = z.strictObject(tokenReply.shape)
const scaled = z.strictObject({
  scale: z.record(z.string(), z.number()),
  groups: z.record(z.string(), z.record(z.string(), z.number())),
  release,
})
const resized = z.strictObject({
  group: z.string(),
  guest: z.strictObject({
    cpu_kind: z.string().optional(),
    cpus: z.number().optional(),
    memory_mb: z.number().optional(),
  }),
  release,
})
/** null: with `--stage`, nothing was released. */
const certificate = z.strictObject(certificateReply.shape)
const secretsChanged = z.strictObject({ names: z.array(z.string()), release: release.nullable() })
const deployed = z.strictObject({
  app: z.string(),
  version: z.number(),
  status: releaseReply.shape.status,
  image: z.string(),
  hostname: z.string(),
  url: z.string(),
  plan: z.array(z.strictObject(releasePlanStep.shape)),
  times_ms: z.strictObject({
    upload: z.number(),
    build: z.number(),
    push: z.number(),
    release: z.number(),
    total: z.number(),
  }),
}) satisfies z.ZodType<DeployResult>
/** `expires_at`: Unix seconds. */
const lease = z.strictObject({
  nonce: z.string(),
  expires_at: z.number(),
  owner: z.string(),
  description: z.string(),
  version: z.string(),
})
const copied = z.strictObject({
  path: z.string(),
  files: z.number(),
  bytes: z.number(),
  left_away: z.number(),
})
const url = z.strictObject({ url: z.string() })
const program = z.strictObject({
  name: z.string(),
  pid: z.number().nullable(),
  since: z.string().nullable(),
  ended: z
    .strictObject({ times: z.number(), soon: z.number(), code: z.number(), at: z.string() })
    .nullable(),
}) satisfies z.ZodType<RunningProgram>
const faults = z.strictObject({
  pairs: z.array(
    z.strictObject({
      a: z.string(),
      b: z.string(),
      cut: z.boolean(),
      delayMs: z.number().nullable(),
      lossPercent: z.number(),
    }),
  ),
  down: z.array(z.string()),
}) satisfies z.ZodType<Faults>
const faulty = z.strictObject({ faults })
const playground = z.strictObject({
  name: z.string(),
  server: z.string(),
  domain: z.string(),
  dns: z.string(),
  token_file: z.string(),
  ca_file: z.string(),
  regions: z.array(
    z.strictObject({
      code: z.string(),
      host: z.string(),
      host_id: z.string().nullable(),
      address: z.string(),
      edge: z.strictObject({ http: z.string(), https: z.string() }),
      client_ns: z.string(),
      host_ns: z.string(),
      containerd: z.string(),
      power: z.enum(['on', 'off']),
      programs: z.array(program),
    }),
  ),
  wan: program,
  faults,
}) satisfies z.ZodType<PlaygroundStatus>

export const JSON_SHAPES: Readonly<Record<string, z.ZodType>> = {
  launch: z.union([deployed, z.strictObject({ app: z.string(), config: z.string() })]),
  deploy: deployed,
  releases: z.union([z.array(release), release]),
  rollback: z.strictObject({ release, changes: z.strictObject(rollbackReply.shape.changes.shape) }),
  'apps list': z.array(app),
  'apps create': z.strictObject({ name: z.string(), status: z.string() }),
  'apps destroy': z.strictObject({ name: z.string(), destroyed: z.literal(true) }),
  'apps open': url,
  status: z.strictObject({
    ...appStatusReply.shape,
    traffic: z.strictObject(appTrafficReply.shape).nullable(),
  }),
  'machine list': z.array(machineShape),
  'machine status': machineShape.extend({
    config: z.record(z.string(), z.unknown()),
    events: z.array(z.unknown()),
  }),
  'machine start': reached('started'),
  'machine stop': reached('stopped'),
  'machine suspend': reached('suspended'),
  'machine resume': reached('started'),
  'machine restart': reached('started'),
  'machine wait': reached('started'),
  'machine destroy': reached('destroyed'),
  'machine cordon': cordoned(true),
  'machine uncordon': cordoned(false),
  'machine leases view': z.array(z.strictObject({ id: z.string(), lease: lease.nullable() })),
  'machine leases clear': z.array(z.strictObject({ id: z.string(), lease })),
  'machine exec': z.strictObject({
    exit_code: z.number(),
    stdout: z.string(),
    stderr: z.string(),
    stdout_cut: z.number(),
    stderr_cut: z.number(),
  }),
  'machine run': machineShape,
  'machine create': machineShape,
  'machine clone': machineShape,
  'machine update': machineShape,
  'machine kill': z.array(z.strictObject({ id: z.string(), signal: z.string() })),
  'machine metadata': z.record(z.string(), z.string()),
  'scale show': z.array(
    z.strictObject({
      group: z.string(),
      region: z.string(),
      size: z.string(),
      count: z.number(),
    }),
  ),
  'scale count': scaled,
  'scale vm': resized,
  'scale memory': resized,
  'secrets set': secretsChanged,
  'secrets unset': secretsChanged,
  'secrets list': z.array(
    z.strictObject({
      name: z.string(),
      digest: z.string(),
      created_at: z.string(),
      updated_at: z.string(),
    }),
  ),
  'certs add': certificate,
  'certs show': certificate,
  'certs check': certificate,
  'certs import': certificate,
  'certs list': z.array(z.strictObject(certificateSummary.shape)),
  'certs remove': z.strictObject({
    hostname: z.string(),
    removed: z.enum(['all', 'acme', 'custom']),
  }),
  'ssh log': z.array(z.strictObject(sessionReply.shape)),
  'sftp get': copied,
  'sftp put': copied,
  proxy: z.strictObject({
    address: z.string(),
    port: z.number(),
    machine: z.string(),
    region: z.string().optional(),
    host: z.string().nullable(),
    remote_port: z.number(),
  }),
  'tokens list': z.array(token),
  'tokens create': token.extend({ token: z.string() }),
  'tokens revoke': z.array(token),
  'context list': z.array(
    z.strictObject({ name: z.string(), url: z.string(), current: z.boolean(), ca: z.boolean() }),
  ),
  'context show': z.strictObject({ url: z.string(), from: z.string(), file: z.string() }),
  'context use': z.strictObject({ name: z.string(), url: z.string() }),
  'context remove': z.strictObject({
    removed: z.array(z.string()),
    current: z.string().nullable(),
  }),
  'auth login': z.strictObject({
    name: z.string(),
    url: z.string(),
    user: z.string(),
    domain: z.string(),
  }),
  'auth logout': z.strictObject({ name: z.string(), current: z.string().nullable() }),
  'auth whoami': z.strictObject({
    server: z.string(),
    from: z.string(),
    name: z.string(),
    id: z.string().nullable(),
    kind: z.string().nullable(),
    actions: z.array(z.string()),
    apps: z.array(z.string()).nullable(),
    expires_at: z.string().nullable(),
    version: z.string(),
    domain: z.string(),
  }),
  up: z.strictObject({
    name: z.string(),
    region: z.string(),
    public_address: z.string(),
    server: z.string().nullable(),
    domain: z.string().nullable(),
    token_file: z.string().nullable(),
    ca_file: z.string(),
    programs: z.array(program),
  }) satisfies z.ZodType<HostStatus>,
  down: z.strictObject({ removed: z.boolean() }),
  'playground up': playground,
  'playground status': playground,
  'playground down': z.strictObject({ name: z.string(), removed: z.boolean() }),
  'playground fault kill': z.union([
    z.strictObject({ killed: z.string(), faults }),
    z.strictObject({ killed: z.string(), pids: z.array(z.number()) }),
  ]),
  'playground fault restore': z.strictObject({ restored: z.string(), faults }),
  'playground fault cut': faulty,
  'playground fault heal': faulty,
  'playground fault delay': faulty,
  'playground fault loss': faulty,
  'playground fault list': faulty,
  'mirror seed': z.array(
    z.strictObject({
      name: z.string(),
      digest: z.string(),
      source: z.enum(['upstream', 'packages']),
      sentBytes: z.number(),
      ms: z.number(),
    }),
  ) satisfies z.ZodType<readonly MirroredImage[]>,
  'mirror list': z.array(z.strictObject({ name: z.string(), digest: z.string().nullable() })),
  regions: z.array(z.strictObject(regionReply.shape)),
  hosts: z.array(z.strictObject(hostReply.shape)),
  doctor: z.strictObject({ ...doctorReply.shape, server_reached: z.boolean() }),
  'registry usage': z.strictObject(imageStoreReply.shape),
  'registry collect': z.strictObject(collectImagesReply.shape),
  open: url,
  completion: z.union([
    z.strictObject({ shell: z.string(), script: z.string() }),
    z.array(z.strictObject({ word: z.string(), about: z.string() })),
  ]),
  manual: z.strictObject({ page: z.string() }),
}

/** Of commands that go on: each line is JSON of its own. */
export const JSON_LINES: Readonly<Record<string, z.ZodType>> = {
  logs: z.strictObject(logLine.shape),
  'logs --access': z.strictObject(accessLine.shape),
  'releases --follow': z.union([z.strictObject(releaseEvent.shape), release]),
}

/** That of a command line; undefined where it is that of no command with one answer. */
export function jsonShapeOf(argv: readonly string[]): z.ZodType | undefined {
  const lengths = [3, 2, 1]
  return lengths.map((n) => JSON_SHAPES[argv.slice(0, n).join(' ')]).find((shape) => shape)
}

import { type DiskSpace, diskState } from '../host/disk.ts'
import type { Instant } from '../id.ts'
import type { AppFacts, DoctorFacts, HostFacts, NameFacts, UsageKind } from './facts.ts'
import { hostnameFindings } from './hostname-findings.ts'
import { spanText } from './span.ts'
import { tokenFindings } from './token-findings.ts'

/** Something that is wrong. */
export interface Finding {
  /** `error`: something does not work. `warning`: something will not, or works worse than it should. */
  readonly severity: 'error' | 'warning'
  /** `server`, `image store`, `host ams-1`, `app shop`, `dns`, `certificates`, `certificate of www.example.com`, `token ci`. */
  readonly about: string
  readonly problem: string
  readonly why: string | null
  /** Commands that mend it, likeliest first. */
  readonly fixes: readonly string[]
}

const SECOND_MS = 1_000
const DAY_MS = 86_400_000
const AGENT_SILENT_MS = 10 * SECOND_MS
const EDGE_SILENT_MS = 10 * SECOND_MS
/** Tokens and certificates allow a minute; times in logs and events are wrong long before. */
const CLOCK_OFF_MS = 5 * SECOND_MS
const CLOCK_WRONG_MS = 60 * SECOND_MS
const CERTIFICATE_ERROR_MS = 3 * DAY_MS
const CERTIFICATE_WARNING_MS = 14 * DAY_MS
const MEMORY_FREE_MB_MIN = 128
const WAL_BYTES_MAX = 64_000_000
const RESTARTS_MIN = 3
const RESTARTS_WITHIN_MS = 3_600_000
const SHOWN_MAX = 3
const START =
  'roost up   # on that host: starts what does not run (roost playground up in a playground)'

/** Everything that is wrong by these facts, worst first. Empty: all is well. */
export function findingsOf(facts: DoctorFacts): Finding[] {
  const findings = [
    ...ofServer(facts),
    ...ofImageStore(facts),
    ...ofHosts(facts),
    ...ofCertificates(facts),
    ...hostnameFindings(facts.hostnames ?? [], { now: facts.now, orders: facts.orders ?? false }),
    ...tokenFindings(facts.tokens ?? [], facts.now),
    ...ofDns(facts),
    ...facts.apps.flatMap((app) => ofApp(app, facts.now)),
  ]
  return [
    ...findings.filter(({ severity }) => severity === 'error'),
    ...findings.filter(({ severity }) => severity === 'warning'),
  ]
}

function ofServer({ server, now }: DoctorFacts): Finding[] {
  const about = 'server'
  const findings: Finding[] = []
  if (server.trouble !== null)
    findings.push({
      severity: 'error',
      about,
      problem: `it can write nothing down since ${ago(now - server.trouble.since)}: deploys and changes are refused, what runs runs on`,
      why: server.trouble.message,
      fixes: [
        'roost registry collect',
        `du -xh --max-depth=2 ${folderOf(server.database.path)} | sort -h | tail`,
      ],
    })
  if (server.space !== null && diskState(server.space) !== 'ok')
    findings.push(ofDisk(about, server.space, [], ['roost registry collect']))
  if (server.database.walBytes > WAL_BYTES_MAX)
    findings.push({
      severity: 'warning',
      about,
      problem: `the log of its database has grown to ${size(server.database.walBytes)}`,
      why: 'another process reads the database without an end',
      fixes: [`fuser -v ${server.database.path}   # shows which: end it`],
    })
  return findings
}

function ofImageStore({ imageStore, server }: DoctorFacts): Finding[] {
  if (imageStore === null) return []
  const about = 'image store'
  const findings: Finding[] = []
  if (imageStore.failure !== null)
    findings.push({
      severity: 'error',
      about,
      problem: 'it does not answer: nothing can be built or pulled',
      why: imageStore.failure,
      fixes: [START],
    })
  const { space } = imageStore
  // On the server's own file system it is the server's finding.
  const same = space !== null && server.space !== null && isSame(space, server.space)
  if (space !== null && !same && diskState(space) !== 'ok') {
    const kinds = [
      { kind: 'images', bytes: imageStore.bytes, freeableBytes: imageStore.collectableBytes },
    ]
    findings.push(ofDisk(about, space, kinds, ['roost registry collect']))
  }
  return findings
}

function ofHosts(facts: DoctorFacts): Finding[] {
  if (facts.hosts.length === 0)
    return [
      {
        severity: 'error',
        about: 'hosts',
        problem: 'there is no host: nothing can run',
        why: null,
        fixes: ['roost up --region CODE   # makes this machine a host'],
      },
    ]
  return facts.hosts.flatMap((host) => ofHost(host, facts))
}

function ofHost(host: HostFacts, facts: DoctorFacts): Finding[] {
  const { now, server } = facts
  const about = `host ${host.name}`
  const silentMs = host.agentSeenAt === null ? null : now - host.agentSeenAt
  if (host.status === 'unreachable' || silentMs === null || silentMs > AGENT_SILENT_MS)
    return [
      {
        severity: 'error',
        about,
        problem:
          silentMs === null
            ? 'its agent was not heard since the server started'
            : `its agent was last heard ${ago(silentMs)} ago`,
        why: 'the host is down, cut off from the server, or its agent does not run; what it runs may run on',
        fixes: [START],
      },
    ]
  const findings: Finding[] = []
  const edgeSilentMs = host.edgeSeenAt === null ? null : now - host.edgeSeenAt
  if (host.edgeExpected && (edgeSilentMs === null || edgeSilentMs > EDGE_SILENT_MS))
    findings.push({
      severity: 'error',
      about,
      problem:
        edgeSilentMs === null
          ? 'its edge was not heard since the server started'
          : `its edge was last heard ${ago(edgeSilentMs)} ago`,
      why: 'requests go to the edges of other hosts; those that come here may fail or see old routes',
      fixes: [START],
    })
  if (host.clockOffsetMs !== null && Math.abs(host.clockOffsetMs) > CLOCK_OFF_MS)
    findings.push({
      severity: Math.abs(host.clockOffsetMs) > CLOCK_WRONG_MS ? 'error' : 'warning',
      about,
      problem: `its clock is ${spanText(Math.abs(host.clockOffsetMs))} ${host.clockOffsetMs > 0 ? 'ahead of' : 'behind'} the server's`,
      why: 'tokens and certificates are refused between clocks that are apart, and times in logs are wrong',
      fixes: ['timedatectl set-ntp true   # on the host whose clock is wrong'],
    })
  for (const [program, version] of Object.entries(host.versions))
    if ((program === 'agent' || program === 'edge') && version !== server.version)
      findings.push({
        severity: 'warning',
        about,
        problem: `its ${program} is of version ${version}, the server of ${server.version}`,
        why: null,
        fixes: ['roost up   # on that host, from the newer checkout'],
      })
  const { refusedRecords: refused } = host
  if (refused.length > 0)
    findings.push({
      severity: 'error',
      about,
      problem: `its edge refuses ${refused.length === 1 ? 'a record' : `${refused.length} records`} and goes on with what it knew before`,
      why: refused.slice(0, SHOWN_MAX).join('; '),
      fixes: [
        'roost up   # on that host, from the newest checkout: its edge may be behind the server',
      ],
    })
  if ('failure' in host.usage)
    findings.push({
      severity: 'warning',
      about,
      problem: 'its agent does not say what takes room there',
      why: host.usage.failure,
      fixes: [`roost doctor   # again; if it stays so, look at the agent's log on ${host.name}`],
    })
  else {
    const { fileSystems, kinds, refused, warnings } = host.usage
    for (const warning of warnings)
      findings.push({ severity: 'warning', about, problem: warning, why: null, fixes: [] })
    for (const space of fileSystems)
      if (diskState(space) !== 'ok') {
        const held = kinds.filter((kind) => kind.fileSystem === space.path)
        findings.push(
          ofDisk(about, space, held, [
            `du -xh --max-depth=2 ${space.path} | sort -h | tail   # on ${host.name}`,
          ]),
        )
      }
    const [first] = refused
    if (first !== undefined && fileSystems.every((space) => diskState(space) === 'ok'))
      findings.push({
        severity: 'warning',
        about,
        problem: `${refused.length === 1 ? 'something' : `${refused.length} things`} failed there for want of room in the last hour`,
        why: refused
          .slice(0, SHOWN_MAX)
          .map(({ what, path }) => `${what} (${path})`)
          .join('; '),
        fixes: ['roost hosts   # shows how full the disks are'],
      })
  }
  if (host.freeMemoryMb < MEMORY_FREE_MB_MIN || host.freeCpus <= 0)
    findings.push({
      severity: 'warning',
      about,
      problem: 'nothing more can be placed there',
      why:
        host.freeCpus <= 0
          ? 'all of its cpus are promised to machines'
          : `${host.freeMemoryMb} of ${host.memoryMb} MB of memory are not promised to machines`,
      fixes: [
        'roost scale count   # fewer machines',
        'roost up --region CODE   # on another server: one more host',
      ],
    })
  return findings
}

function ofDisk(
  about: string,
  space: DiskSpace,
  kinds: readonly Pick<UsageKind, 'kind' | 'bytes' | 'freeableBytes'>[],
  fixes: readonly string[],
): Finding {
  const full = diskState(space) === 'full'
  const inodes =
    space.inodes > 0 && space.freeInodes / space.inodes < space.freeBytes / Math.max(1, space.bytes)
  const left = inodes
    ? `${space.freeInodes} of ${space.inodes} inodes are free`
    : `${size(space.freeBytes)} of ${size(space.bytes)} are free`
  const largest = [...kinds].filter(({ bytes }) => bytes > 0).sort((a, b) => b.bytes - a.bytes)
  const shown = largest
    .slice(0, SHOWN_MAX)
    .map(({ kind, bytes, freeableBytes }) =>
      freeableBytes > 0
        ? `${kind} ${size(bytes)} (${size(freeableBytes)} of it not used)`
        : `${kind} ${size(bytes)}`,
    )
  return {
    severity: full ? 'error' : 'warning',
    about,
    problem: `the disk at ${space.path} is ${full ? 'full' : 'nearly full'}: ${left}`,
    why:
      shown.length === 0 ? null : `Roost keeps there: ${shown.join(', ')}; the rest is not Roost's`,
    fixes,
  }
}

function ofCertificates({ certificates, now }: DoctorFacts): Finding[] {
  return certificates.flatMap(({ of, expiresAt, lifeMs, fix }): Finding[] => {
    const leftMs = expiresAt - now
    // One that lives for a week is not near its end for all of it.
    const warningMs = Math.min(CERTIFICATE_WARNING_MS, (lifeMs ?? Number.POSITIVE_INFINITY) / 4)
    if (leftMs > warningMs) return []
    return [
      {
        severity: leftMs <= Math.min(CERTIFICATE_ERROR_MS, warningMs / 2) ? 'error' : 'warning',
        about: 'certificates',
        problem:
          leftMs <= 0
            ? `that of the ${of} has expired`
            : `that of the ${of} expires in ${spanText(leftMs)}`,
        why: leftMs <= 0 ? 'nobody talks to it any more' : 'it should have been renewed by now',
        fixes: [fix],
      },
    ]
  })
}

function ofDns({ dns, domain, hosts }: DoctorFacts): Finding[] {
  const alive = new Set(hosts.filter(({ status }) => status === 'ok').map(({ name }) => name))
  return dns.flatMap((asked) => {
    // A host that does not answer at all has its finding already.
    if (asked.host !== null && !alive.has(asked.host)) return []
    if (asked.failure === null && asked.addresses.length > 0) return []
    return [asked.host === null ? noDelegation(asked, domain) : silentEdge(asked)]
  })
}

function silentEdge({ asked, host, name, failure }: NameFacts): Finding {
  return {
    severity: 'error',
    about: `host ${host}`,
    problem: `its DNS at ${asked} has no address for ${name}`,
    why: failure,
    fixes: [START, 'let UDP and TCP on port 53 through its firewall'],
  }
}

function noDelegation({ asked, name, failure }: NameFacts, domain: string): Finding {
  return {
    severity: 'warning',
    about: 'dns',
    problem: `${asked} has no address for ${name}`,
    why: failure ?? 'the answer is empty',
    fixes: [
      `make the hosts' public addresses the name servers (NS) of ${domain} at whoever you bought it from`,
    ],
  }
}

function ofApp(app: AppFacts, now: Instant): Finding[] {
  const about = `app ${app.name}`
  const findings: Finding[] = []
  const { release } = app
  if (release !== null && release.status === 'failed')
    findings.push({
      severity: 'warning',
      about,
      problem: `its last release, ${release.version}, failed`,
      why: release.reason,
      fixes: [`roost releases -a ${app.name}`, `roost deploy -a ${app.name}`],
    })
  for (const machine of app.machines) {
    const { id, host, restarts, lastExitAt } = machine
    const failed = machine.state === 'failed' && machine.wanted === 'started'
    const restarting =
      restarts >= RESTARTS_MIN && lastExitAt !== null && now - lastExitAt < RESTARTS_WITHIN_MS
    if (!failed && !restarting) continue
    findings.push({
      severity: failed ? 'error' : 'warning',
      about,
      problem: failed
        ? `machine ${id} on ${host} has failed`
        : `machine ${id} on ${host} was restarted ${restarts} times, last ${ago(now - (lastExitAt ?? now))} ago`,
      why: machine.reason ?? machine.lastExit,
      fixes: [`roost logs -a ${app.name}`, `roost machine status ${id} -a ${app.name}`],
    })
  }
  return findings
}

function isSame(a: DiskSpace, b: DiskSpace): boolean {
  return (
    a.bytes === b.bytes &&
    a.inodes === b.inodes &&
    Math.abs(a.freeBytes - b.freeBytes) < a.bytes / 100
  )
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf('/')))
}

function ago(ms: number): string {
  return spanText(Math.max(0, ms))
}

function size(bytes: number): string {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`
  return `${(bytes / 1e9).toFixed(1)} GB`
}

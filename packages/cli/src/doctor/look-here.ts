import { existsSync, readdirSync, readFileSync, statfsSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { DoctorReply, FindingReply } from '@roost/api'
import { type DiskSpace, diskState } from '@roost/core'
import { type HostLayout, type HostSpec, layoutOf } from '../host/layout.ts'
import { HOST_STATE, PLAYGROUND_STATE } from '../host/machine-record.ts'
import { programsIn } from '../host/programs.ts'

const CONNECT_MS = 3_000
const HTTP_PORT = 80

export interface Here {
  readonly findings: readonly FindingReply[]
  readonly usage: DoctorReply['usage']
}

/**
 * What can be seen without the server: the hosts on this machine that belong to it, their programs and disks, and the edges they
 * know of. `serverUrl`: where the server was looked for.
 */
export async function lookHere(
  serverUrl: string,
  state: { readonly hosts: string; readonly playgrounds: string } = {
    hosts: HOST_STATE,
    playgrounds: PLAYGROUND_STATE,
  },
): Promise<Here> {
  const specs = [...specsUnder(state.hosts), ...playgroundsOf(serverUrl, state.playgrounds)]
  const findings: FindingReply[] = []
  const usage: DoctorReply['usage'] = []
  const edges = new Map<string, string>()
  for (const spec of specs) {
    const layout = layoutOf(spec)
    findings.push(...programFindings(spec, layout, startOf(spec, state.playgrounds)))
    const space = spaceAt(spec.dataDir)
    if (space !== null) {
      usage.push({ where: spec.name, file_systems: [fileSystemOf(space)], kinds: [] })
      if (diskState(space) !== 'ok') findings.push(diskFinding(spec, space))
    }
    edges.set(spec.publicAddress, spec.name)
    for (const known of knownHosts(layout)) edges.set(known.publicAddress, known.name)
  }
  findings.push(...(await edgeFindings(edges)))
  return { findings, usage }
}

/** `hosts/<name>/host.json`, and one level deeper in a playground. */
function specsUnder(folder: string): HostSpec[] {
  if (!existsSync(folder)) return []
  const found: HostSpec[] = []
  const look = (at: string, depth: number) => {
    const file = join(at, 'host.json')
    if (existsSync(file)) {
      try {
        found.push(JSON.parse(readFileSync(file, 'utf8')) as HostSpec)
      } catch {
        // Half-written by an `up` that was killed: there is no such host yet.
      }
      return
    }
    if (depth === 0) return
    for (const entry of readdirSync(at, { withFileTypes: true }))
      if (entry.isDirectory()) look(join(at, entry.name), depth - 1)
  }
  look(folder, 3)
  return found
}

/** Of the playground whose server it is: other playgrounds are well, or somebody else's concern. */
function playgroundsOf(serverUrl: string, folder: string): HostSpec[] {
  const { hostname } = new URL(serverUrl)
  const specs = specsUnder(folder)
  const server = specs.find((spec) => spec.server !== null && spec.publicAddress === hostname)
  return specs.filter(({ installation }) => installation === server?.installation)
}

function startOf(spec: HostSpec, playgrounds: string): string {
  if (!spec.dataDir.startsWith(`${playgrounds}/`)) return 'roost up'
  const [name = ''] = spec.dataDir.slice(playgrounds.length + 1).split('/')
  return `roost playground fault restore ${spec.region} --name ${name}`
}

function programFindings(spec: HostSpec, layout: HostLayout, start: string): FindingReply[] {
  const expected = [
    'containerd',
    'agent',
    'edge',
    ...(spec.server === null ? [] : ['server', 'registry']),
  ]
  const running = new Map(programsIn(layout.pidDir).map((program) => [program.name, program]))
  const missing = expected.filter((name) => (running.get(name)?.pid ?? null) === null)
  if (missing.length === 0) return []
  return [
    {
      severity: 'error',
      about: `host ${spec.name}`,
      problem: `${missing.join(', ')} ${missing.length === 1 ? 'does' : 'do'} not run on this machine`,
      why: missing.map((name) => lastWords(layout, name)).find((words) => words !== null) ?? null,
      fixes: [start, `tail ${join(layout.logDir, `${missing[0]}.log`)}`],
    },
  ]
}

/** Why a program of ours ended, if it said so: `roost server: read the configuration: …`. */
function lastWords(layout: HostLayout, name: string): string | null {
  try {
    const lines = readFileSync(join(layout.logDir, `${name}.out`), 'utf8')
      .trim()
      .split('\n')
    return lines.at(-1)?.startsWith('roost ') ? (lines.at(-1) ?? '').slice(0, 500) : null
  } catch {
    return null
  }
}

function knownHosts(layout: HostLayout): readonly { name: string; publicAddress: string }[] {
  try {
    const { knownHosts: hosts = [] } = JSON.parse(
      readFileSync(layout.configOf('agent'), 'utf8'),
    ) as {
      knownHosts?: { name: string; publicAddress: string }[]
    }
    return hosts
  } catch {
    return []
  }
}

async function edgeFindings(edges: ReadonlyMap<string, string>): Promise<FindingReply[]> {
  const looked = await Promise.all(
    [...edges].map(async ([address, name]) => ({ address, name, failure: await knock(address) })),
  )
  return looked.flatMap(({ address, name, failure }): FindingReply[] =>
    failure === null
      ? []
      : [
          {
            severity: 'error',
            about: `host ${name}`,
            problem: `nothing serves requests at ${address}:${HTTP_PORT}`,
            why: failure,
            fixes: [
              'roost up   # on that host: starts what does not run (roost playground up in a playground)',
            ],
          },
        ],
  )
}

/** null: somebody listens. */
function knock(address: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port: HTTP_PORT })
    const end = (failure: string | null) => {
      socket.destroy()
      resolve(failure)
    }
    socket.setTimeout(CONNECT_MS, () => end(`no answer within ${CONNECT_MS / 1000} s`))
    socket.once('connect', () => end(null))
    socket.once('error', (error) => end(error.message))
  })
}

function spaceAt(path: string): DiskSpace | null {
  try {
    const { bsize, blocks, bavail, files, ffree } = statfsSync(path)
    return {
      path,
      bytes: blocks * bsize,
      freeBytes: bavail * bsize,
      inodes: files,
      freeInodes: ffree,
    }
  } catch {
    return null
  }
}

function fileSystemOf(space: DiskSpace) {
  return {
    path: space.path,
    bytes: space.bytes,
    free_bytes: space.freeBytes,
    inodes: space.inodes,
    free_inodes: space.freeInodes,
    state: diskState(space),
  }
}

function diskFinding(spec: HostSpec, space: DiskSpace): FindingReply {
  const full = diskState(space) === 'full'
  return {
    severity: full ? 'error' : 'warning',
    about: `host ${spec.name}`,
    problem: `the disk at ${space.path} is ${full ? 'full' : 'nearly full'}: ${Math.round(space.freeBytes / 1e6)} of ${Math.round(space.bytes / 1e6)} MB are free`,
    why: null,
    fixes: [`du -xh --max-depth=2 ${space.path} | sort -h | tail`],
  }
}

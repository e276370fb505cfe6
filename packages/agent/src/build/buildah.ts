import { spawn } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { PlatformError } from '@roost/base'
import { openCgroups } from '../containerd/cgroup.ts'
import { reachableNameservers } from './builder-network.ts'

export interface BuildahOptions {
  readonly dataDir: string
  /** File of the network namespace that it and its steps live in. */
  readonly netnsPath: string
  /** Parent of the cgroups of steps. */
  readonly cgroupParent: string
  /** What all builds together may use. */
  readonly memoryMb: number
  readonly nameservers: readonly string[]
}

export interface RegistryPlace {
  /** `registry.internal`. */
  readonly name: string
  /** `10.210.4.1:5000`. */
  readonly host: string
  /** PEM of the authority that signed its certificate. */
  readonly ca: string
}

export interface BuildahRun {
  readonly args: readonly string[]
  readonly signal: AbortSignal
  /** Where `--mount=type=cache` and temporary files of this run are kept. */
  readonly tmpDir: string
  readonly authFile?: string
  /** Where it keeps what it knows of blobs and their places: `pulledBlobsDir` unless said. */
  readonly blobsDir?: string
  /** Read-only for steps, whatever they mount. */
  readonly readOnly?: readonly string[]
  readonly timeoutMs: number
  /** For what only looks after files: the builder's network may not be there yet. */
  readonly withoutNetwork?: boolean
  /** Called for each line of standard output and error, at most 4000 characters. The next waits until it is done. */
  readonly onLine?: (line: string) => void | Promise<void>
}

/**
 * Runs buildah in namespaces of its own: the builder's network, a mount namespace with our resolv.conf, hosts file and
 * directories in the places that it won't be told about, and a PID namespace. Ending the latter ends everything that a build
 * started, its containers included, and with the last process all its mounts are gone.
 */
export interface Buildah {
  /** Writes the configuration files that all runs share. */
  configure(registry: RegistryPlace): void
  /** Writes the password that runs with this `authFile` show to the registry; again when it changed. */
  writeAuthFile(authFile: string, registry: RegistryPlace, password: string): void
  /** Ends with the exit code; a signal or the timeout kills it and throws. */
  run(run: BuildahRun): Promise<number>
  /** Standard output of a short command. */
  query(args: readonly string[], run: Omit<BuildahRun, 'args' | 'onLine'>): Promise<string>
  /** Arguments for `bud` that follow from this machine: limits that it lets us give, authorities that its owner added. */
  readonly machineArguments: readonly string[]
  readonly configDir: string
  readonly storageDir: string
  readonly pulledBlobsDir: string
  /** Grows whenever builds ran out of the memory that they may use. */
  shortages(): number
  /** Removes cgroups of steps that are no more. */
  sweepCgroups(): void
  /** Whether builds that were cut off left containers. Only true words while no build runs. */
  hasLeftContainers(): boolean
}

const LINE_CHARS_MAX = 4000
/** Processes and threads of all builds together. */
const PIDS_MAX = 8192
/** Of all on a host, builds are the first to go when it runs out of memory. */
const ENTER = `
echo 800 > /proc/self/oom_score_adj
for file in $1; do echo $$ > "$file"; done
shift
exec "$@"`
const KILL_MS = 3000
const SETUP = `
set -e
mount --bind "$ROOST_CONFIG/resolv.conf" /etc/resolv.conf
mount --bind "$ROOST_CONFIG/hosts" /etc/hosts
mkdir -p /run/runc /var/lib/containers/cache
mount --bind "$ROOST_STATE/runc" /run/runc
mount --bind "$ROOST_BLOBS" /var/lib/containers/cache
while [ "$1" != -- ]; do
  mount -t overlay -o "ro,lowerdir=$1:$ROOST_STATE/empty" overlay "$1"
  shift
done
shift
unset ROOST_CONFIG ROOST_STATE ROOST_BLOBS
exec "$@"
`

/**
 * Where the owner of this machine added authorities of his own (a proxy that looks into TLS), steps of builds must believe them as
 * the machine does, or they fetch nothing. buildah has no environment that only steps get, so its runtime is a script that
 * adds it, and the machine's bundle on a tmpfs, to the description of each step before runc reads it: no trace is in the image.
 */
const OWN_AUTHORITIES = '/usr/local/share/ca-certificates'
const AUTHORITY_BUNDLE = '/etc/ssl/certs/ca-certificates.crt'
const AUTHORITIES_INSIDE = '/dev/roost-authorities.crt'
const AUTHORITY_VARIABLES = [
  'SSL_CERT_FILE',
  'NODE_EXTRA_CA_CERTS',
  'CURL_CA_BUNDLE',
  'REQUESTS_CA_BUNDLE',
  'PIP_CERT',
  'GIT_SSL_CAINFO',
  'CARGO_HTTP_CAINFO',
]
const TRUSTING_RUNTIME = `#!/bin/sh
for word; do
  [ "$before" != --bundle ] || bundle=$word
  before=$word
done
if [ -n "$bundle" ]; then
  jq -c '
    (.process.env // [] | map(split("=")[0])) as $set
    | .process.env += [ "${AUTHORITY_VARIABLES.join('", "')}" | select(IN($set[]) | not) | . + "=${AUTHORITIES_INSIDE}" ]
    | .mounts += [{ destination: "${AUTHORITIES_INSIDE}", type: "bind", source: "${AUTHORITY_BUNDLE}", options: ["bind", "ro"] }]
  ' "$bundle/config.json" > "$bundle/config.new" && mv "$bundle/config.new" "$bundle/config.json" || exit 1
fi
exec runc "$@"
`

export function openBuildah(options: BuildahOptions): Buildah {
  const configDir = join(options.dataDir, 'config')
  const stateDir = join(options.dataDir, 'state')
  const storageDir = join(options.dataDir, 'storage')
  const pulledBlobsDir = join(stateDir, 'blobs')
  const cgroups = openCgroups()
  for (const dir of [
    join(configDir, 'certs'),
    join(configDir, 'home'),
    join(stateDir, 'runc'),
    pulledBlobsDir,
    join(stateDir, 'empty'),
    join(stateDir, 'run'),
    storageDir,
  ])
    mkdirSync(dir, { recursive: true, mode: 0o700 })

  const write = (name: string, text: string, mode = 0o600) =>
    replaceFile(join(configDir, name), text, mode)
  write(
    'storage.conf',
    `[storage]\ndriver = "overlay"\ngraphroot = "${storageDir}"\nrunroot = "${join(stateDir, 'run')}"\n`,
  )
  // Else it leaves a lock file in /etc.
  write(
    'containers.conf',
    `[containers]\n[network]\nnetwork_config_dir = "${join(configDir, 'network')}"\n`,
  )
  write('runtime', TRUSTING_RUNTIME, 0o700)
  for (const name of ['resolv.conf', 'hosts']) appendFileSync(join(configDir, name), '')

  function environment(
    run: Pick<BuildahRun, 'tmpDir' | 'authFile' | 'blobsDir'>,
  ): NodeJS.ProcessEnv {
    return {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LANG: 'C.UTF-8',
      HOME: join(configDir, 'home'),
      TMPDIR: run.tmpDir,
      ROOST_CONFIG: configDir,
      ROOST_STATE: stateDir,
      ROOST_BLOBS: run.blobsDir ?? pulledBlobsDir,
      CONTAINERS_CONF: join(configDir, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(configDir, 'storage.conf'),
      CONTAINERS_REGISTRIES_CONF: join(configDir, 'registries.conf'),
      REGISTRY_AUTH_FILE: run.authFile ?? join(configDir, 'no-auth.json'),
    }
  }

  function start(run: Omit<BuildahRun, 'onLine'>) {
    mkdirSync(run.tmpDir, { recursive: true, mode: 0o700 })
    const { cgroupParent, memoryMb } = options
    const limits = { memoryBytes: memoryMb * 1_048_576, pids: PIDS_MAX }
    cgroups.limit(cgroupParent, limits)
    // Beside those of steps: with version 2 a group has processes or groups, not both.
    cgroups.limit(`${cgroupParent}/buildah`, limits)
    return spawn(
      'sh',
      [
        '-c',
        ENTER,
        'sh',
        cgroups.entries(`${cgroupParent}/buildah`).join(' '),
        // When the agent is killed, the kernel ends `unshare` too, and with it all the rest.
        'setpriv',
        '--pdeathsig=SIGKILL',
        ...(run.withoutNetwork ? [] : ['nsenter', `--net=${options.netnsPath}`]),
        'unshare',
        '--mount',
        '--pid',
        '--fork',
        '--kill-child=SIGKILL',
        '--mount-proc',
        '--propagation=slave',
        'sh',
        '-c',
        SETUP,
        'roost-build',
        ...(run.readOnly ?? []),
        '--',
        'buildah',
        ...run.args,
      ],
      { env: environment(run), cwd: '/', detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
    )
  }

  async function run(given: BuildahRun, collect?: (chunk: Buffer) => void): Promise<number> {
    given.signal.throwIfAborted()
    const child = start(given)
    let late = false
    const ended = () =>
      child.pid === undefined || child.exitCode !== null || child.signalCode !== null
    const kill = () => {
      if (child.pid === undefined || ended()) return
      const inits = childrenOf(child.pid)
      // The first process of the PID namespace takes all others with it, and only then does `unshare` end: what comes after
      // this run finds nothing alive. Before there is one, the group is all there is.
      if (inits.length === 0) signalProcess(-child.pid)
      for (const init of inits) signalProcess(init)
      setTimeout(() => {
        if (child.pid !== undefined && !ended()) signalProcess(-child.pid)
      }, KILL_MS).unref()
    }
    const timer = setTimeout(() => {
      late = true
      kill()
    }, given.timeoutMs)
    given.signal.addEventListener('abort', kill, { once: true })
    const exited = new Promise<number>((resolve, reject) => {
      child.on('error', (cause) =>
        reject(new PlatformError('internal', 'start buildah', { cause, retry: 'later' })),
      )
      child.on('close', (code) => resolve(code ?? 137))
    })
    try {
      const tell = async (line: string) => {
        await given.onLine?.(line)
      }
      const reading = [
        collect === undefined
          ? eachLine(child.stdout, tell)
          : new Promise<void>((resolve) => {
              child.stdout.on('data', collect)
              child.stdout.on('end', resolve)
              child.stdout.on('error', () => resolve())
            }),
        eachLine(child.stderr, tell),
      ]
      const results = await Promise.allSettled([exited, ...reading])
      given.signal.throwIfAborted()
      if (late)
        throw new PlatformError('timeout', `buildah ${given.args[0]}`, {
          cause: new Error(`no end after ${Math.round(given.timeoutMs / 60_000)} min`),
        })
      for (const result of results) if (result.status === 'rejected') throw result.reason
      return await exited
    } finally {
      clearTimeout(timer)
      given.signal.removeEventListener('abort', kill)
      kill()
    }
  }

  return {
    configDir,
    storageDir,
    pulledBlobsDir,
    machineArguments: [
      ...ulimits(),
      `--runtime=${addsAuthorities() ? join(configDir, 'runtime') : 'runc'}`,
    ],
    configure(registry) {
      write('policy.json', '{"default":[{"type":"insecureAcceptAnything"}]}')
      write('certs/ca.crt', registry.ca)
      write(
        'registries.conf',
        [
          'unqualified-search-registries = ["docker.io"]',
          'short-name-mode = "disabled"',
          '[[registry]]',
          'prefix = "docker.io"',
          'location = "docker.io"',
          '[[registry.mirror]]',
          `location = "${registry.host}/docker.io"`,
          '[[registry]]',
          `prefix = "${registry.name}"`,
          `location = "${registry.host}"`,
          '',
        ].join('\n'),
      )
      const nameservers = reachableNameservers(options.nameservers)
      // A file that is bind-mounted must keep its inode: written in place.
      writeFileSync(
        join(configDir, 'resolv.conf'),
        nameservers.map((address) => `nameserver ${address}\n`).join(''),
      )
      writeFileSync(
        join(configDir, 'hosts'),
        `127.0.0.1 localhost\n${registry.host.replace(/:\d+$/, '')} ${registry.name}\n`,
      )
    },
    run,
    async query(args, rest) {
      const chunks: Buffer[] = []
      const lines: string[] = []
      const code = await run(
        { ...rest, args, onLine: (line) => void (lines.length < 50 && lines.push(line)) },
        (chunk) => void (chunks.length < 4000 && chunks.push(chunk)),
      )
      if (code !== 0)
        throw new PlatformError('internal', `buildah ${args[0]}`, {
          cause: new Error(lines.slice(-5).join('\n')),
          retry: 'later',
        })
      return Buffer.concat(chunks).toString('utf8').trim()
    },
    writeAuthFile(authFile, registry, password) {
      const auth = Buffer.from(`builder:${password}`).toString('base64')
      replaceFile(authFile, JSON.stringify({ auths: { [registry.host]: { auth } } }), 0o600)
    },
    hasLeftContainers() {
      try {
        const text = readFileSync(join(storageDir, 'overlay-containers', 'containers.json'), 'utf8')
        return (JSON.parse(text) as unknown[]).length > 0
      } catch {
        return false
      }
    },
    shortages: () => cgroups.shortages(options.cgroupParent),
    sweepCgroups() {
      const root = '/sys/fs/cgroup'
      for (const base of [root, ...readdirSync(root).map((name) => join(root, name))])
        removeCgroups(join(base, options.cgroupParent))
    },
  }
}

function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return text
      .trim()
      .split(' ')
      .filter((word) => word !== '')
      .map(Number)
  } catch {
    return []
  }
}

function signalProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended in between.
  }
}

function addsAuthorities(): boolean {
  try {
    const own = readdirSync(OWN_AUTHORITIES).some((name) => name.endsWith('.crt'))
    return own && existsSync(AUTHORITY_BUNDLE)
  } catch {
    return false
  }
}

/** A limit above what we have ourselves is refused by kernels where we lack the right to raise it. */
function ulimits(): string[] {
  const text = readFileSync('/proc/self/limits', 'utf8')
  const hard = (name: string, wanted: number) => {
    const value = new RegExp(`^${name}\\s+\\S+\\s+(\\S+)`, 'm').exec(text)?.[1] ?? ''
    return value === 'unlimited' ? wanted : Math.min(wanted, Number(value) || wanted)
  }
  const files = hard('Max open files', 1_048_576)
  const processes = hard('Max processes', 65_536)
  return [`--ulimit=nofile=${files}:${files}`, `--ulimit=nproc=${processes}:${processes}`]
}

async function eachLine(source: Readable, tell: (line: string) => Promise<void>): Promise<void> {
  let rest = ''
  source.setEncoding('utf8')
  for await (const chunk of source as AsyncIterable<string>) {
    // A carriage return is a progress display redrawing its line.
    const lines = (rest + chunk).split(/\r?\n|\r/)
    rest = lines.pop() ?? ''
    for (const line of lines) await tell(line.slice(0, LINE_CHARS_MAX))
    while (rest.length > LINE_CHARS_MAX) {
      await tell(rest.slice(0, LINE_CHARS_MAX))
      rest = rest.slice(LINE_CHARS_MAX)
    }
  }
  if (rest !== '') await tell(rest)
}

/** A reader finds the old file or the new one, never half of one. */
function replaceFile(path: string, text: string, mode: number): void {
  // On a full disk what is there already must do.
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const draft = `${path}.draft`
  writeFileSync(draft, text, { mode })
  renameSync(draft, path)
}

function removeCgroups(path: string): void {
  let names: string[]
  try {
    names = readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
  } catch {
    return
  }
  for (const name of names) removeCgroups(join(path, name))
  try {
    rmdirSync(path)
  } catch {
    // Processes are still in it.
  }
}

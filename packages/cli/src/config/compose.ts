import { ConfigError } from './config-error.ts'
import type { ContainerToml, HealthcheckToml, VolumeToml } from './container-toml.ts'
import {
  anyScalar,
  anything,
  complain,
  duration,
  either,
  flag,
  idle,
  int,
  list,
  named,
  type Reader,
  type Reading,
  sectionsOf,
  table,
  text,
  words,
} from './reader.ts'
import type { TomlTable } from './toml-tree.ts'
import { yamlTree } from './yaml-tree.ts'

/**
 * A compose file as the containers of one machine: one service that is built here, and its helpers. They share the machine's
 * network: what listens in one is reached by all on localhost. What can't be done so is refused by its key and line.
 */
export interface Compose {
  /** Name of the service that is built; null: all have images. */
  readonly built: string | null
  readonly build: {
    readonly dockerfile?: string
    readonly target?: string
    readonly args?: Readonly<Record<string, string>>
  }
  readonly containers: readonly ContainerToml[]
  readonly volumes: readonly VolumeToml[]
  readonly warnings: readonly string[]
}

const OUTSIDE = 'what strangers reach is said by the services of fly.toml'
const variables = either(named(anyScalar), list(text), 'a table of variables')
const time = duration('s')

const serviceYaml = table({
  image: text,
  build: either(
    text,
    table({ context: text, dockerfile: text, target: text, args: variables }),
    'a folder, or a table with context, dockerfile, target, args',
  ),
  command: words,
  entrypoint: words,
  environment: variables,
  user: anyScalar,
  depends_on: either(
    list(text),
    named(table({ condition: text, required: flag, restart: flag })),
    'a list of services, or a table of them with their conditions',
  ),
  healthcheck: table({
    test: either(text, list(text), 'a command'),
    interval: time,
    timeout: time,
    start_period: time,
    start_interval: idle(time),
    retries: int(1),
    disable: flag,
  }),
  tmpfs: either(text, list(text), 'a path, or a list of them'),
  volumes: list(
    either(
      text,
      table({ type: text, source: text, target: text, tmpfs: table({ size: anything }) }),
      'NAME:PATH',
    ),
  ),
  restart: text,
  stop_signal: text,
  stop_grace_period: time,
  ports: idle(list(anything), OUTSIDE),
  expose: idle(list(anything), OUTSIDE),
  container_name: idle(text),
  labels: idle(anything),
})

const composeYaml = table({
  version: anyScalar,
  name: text,
  services: named(serviceYaml),
  volumes: named(table({ name: text, driver: text, labels: idle(anything) })),
})

type Service = NonNullable<
  (typeof composeYaml extends Reader<infer T> ? T : never)['services']
>[string]

/** Throws a ConfigError. `path` is only for what is said. */
export function readCompose(content: string, path: string): Compose {
  const tree = yamlTree(content)
  if ('problem' in tree) throw new ConfigError(path, [tree.problem], content)
  const reading: Reading = {
    keyAt: { line: 1, column: 1 },
    problems: [],
    idle: [],
    notes: [],
    sectionsWith: sectionsOf(composeYaml),
  }
  // The file's own notes, which other keys may refer to.
  for (const key of tree.table.entries.keys())
    if (key.startsWith('x-')) tree.table.entries.delete(key)
  const file = composeYaml.read(tree.table, '', reading)
  const services = Object.entries(file?.services ?? {})
  const containers: ContainerToml[] = []
  const volumes = new Map<string, VolumeToml>()
  for (const [name, service] of services)
    containers.push(
      containerOf(name, service, volumes, (key, why) =>
        complain(reading, placeOf(tree.table, name, key), `services.${name}.${key} ${why}`),
      ),
    )
  const built = services.filter(([, service]) => service.build !== undefined).map(([name]) => name)
  if (services.length === 0) complain(reading, tree.table, 'services is missing')
  if (built.length > 1)
    complain(
      reading,
      placeOf(tree.table, built[1] ?? '', 'build'),
      `services ${built.join(' and ')} are both built: one can be, the others name an image`,
    )
  for (const [name, { image, build }] of services)
    if (image === undefined && build === undefined)
      complain(reading, placeOf(tree.table, name, ''), `services.${name} needs image, or build`)
  if (reading.problems.length > 0) throw new ConfigError(path, reading.problems, content)
  const ignored = reading.idle.map(
    ({ at, path: key, note }) =>
      `${path}:${at.line}: ${key} does nothing here${note === null ? '' : `: ${note}`}`,
  )
  const [main = null] = built
  return {
    built: main,
    build: main === null ? {} : buildOf(file?.services?.[main]?.build),
    containers,
    volumes: [...volumes.values()],
    warnings: ignored,
  }
}

type Refuse = (key: string, why: string) => void

function containerOf(
  name: string,
  service: Service,
  volumes: Map<string, VolumeToml>,
  refuse: Refuse,
): ContainerToml {
  const { image, build, command, entrypoint, environment, user, restart } = service
  const context = typeof build === 'string' ? build : build?.context
  if (context !== undefined && !/^\.\/?$/.test(context))
    refuse(
      'build',
      `can only be "." here, not "${context}": the folder of fly.toml is what is built`,
    )
  const healthchecks = healthcheckOf(service, refuse)
  const mounts = mountsOf(name, service, volumes, refuse)
  const policy = restart === undefined ? undefined : restartOf(restart, refuse)
  const signal = service.stop_signal
  return {
    name,
    // What is built has the image of the build, whatever it would be called.
    ...(image === undefined || build !== undefined ? {} : { image }),
    ...(command === undefined ? {} : { cmd: command }),
    ...(entrypoint === undefined ? {} : { entrypoint }),
    ...(environment === undefined ? {} : { env: variablesOf(environment, 'environment', refuse) }),
    ...(user === undefined ? {} : { user }),
    ...dependsOf(service, refuse),
    ...(healthchecks === null ? {} : { healthchecks: [healthchecks] }),
    ...(mounts.length === 0 ? {} : { mounts }),
    ...(policy === undefined ? {} : { restart: policy }),
    ...(signal === undefined ? {} : { kill_signal: signal as never }),
    ...(service.stop_grace_period === undefined ? {} : { kill_timeout: service.stop_grace_period }),
  }
}

const CONDITIONS = {
  service_started: 'started',
  service_healthy: 'healthy',
  service_completed_successfully: 'exited_successfully',
} as const

function dependsOf({ depends_on }: Service, refuse: Refuse): Pick<ContainerToml, 'depends_on'> {
  if (depends_on === undefined) return {}
  if (Array.isArray(depends_on)) return { depends_on: depends_on.map((name) => ({ name })) }
  return {
    depends_on: Object.entries(depends_on).map(([name, { condition = 'service_started' }]) => {
      const known = Object.hasOwn(CONDITIONS, condition)
      if (!known)
        refuse(
          'depends_on',
          `has no condition "${condition}": there is ${Object.keys(CONDITIONS).join(', ')}`,
        )
      return { name, condition: CONDITIONS[condition as keyof typeof CONDITIONS] ?? 'started' }
    }),
  }
}

/** Of `depends_on` with `service_healthy`; compose's own default for what is not said. */
function healthcheckOf({ healthcheck }: Service, refuse: Refuse): HealthcheckToml | null {
  if (healthcheck === undefined || healthcheck.disable) return null
  const { test, interval = 30_000, timeout = 30_000, start_period = 0, retries = 3 } = healthcheck
  const command =
    typeof test === 'string'
      ? ['/bin/sh', '-c', test]
      : test?.[0] === 'CMD-SHELL'
        ? ['/bin/sh', '-c', test[1] ?? '']
        : test?.[0] === 'CMD'
          ? test.slice(1)
          : null
  if (test?.[0] === 'NONE') return null
  if (command === null) {
    refuse('healthcheck', 'needs a test: "COMMAND", ["CMD", …] or ["CMD-SHELL", "…"]')
    return null
  }
  const times = { interval, timeout, grace_period: start_period, failure_threshold: retries }
  return { name: 'healthcheck', kind: 'readiness', ...times, exec: { command } }
}

function mountsOf(
  name: string,
  { tmpfs, volumes: asked = [] }: Service,
  volumes: Map<string, VolumeToml>,
  refuse: Refuse,
): { name: string; path: string }[] {
  const mounts: { name: string; path: string }[] = []
  for (const [n, entry] of (tmpfs === undefined ? [] : [tmpfs].flat()).entries()) {
    const volume = `${name}-tmpfs-${n + 1}`
    volumes.set(volume, { name: volume, storage_type: 'memory' })
    mounts.push({ name: volume, path: entry.split(':')[0] ?? '' })
  }
  for (const [n, entry] of asked.entries()) {
    const said =
      typeof entry === 'string' ? entry.split(':') : [entry.source ?? '', entry.target ?? '']
    const type = typeof entry === 'string' ? 'volume' : (entry.type ?? 'volume')
    const [source = '', path = '', mode] = said.length === 1 ? ['', ...said] : said
    if (type === 'tmpfs') {
      const volume = `${name}-tmpfs-v${n + 1}`
      volumes.set(volume, { name: volume, storage_type: 'memory' })
      mounts.push({ name: volume, path })
    } else if (type !== 'volume' || /^[./~]/.test(source))
      refuse(
        'volumes',
        `mounts ${source} of this machine, which is not where it runs: COPY it in the Dockerfile, or write [[files]] in fly.toml`,
      )
    else if (mode !== undefined && mode !== 'rw')
      refuse('volumes', `has the option "${mode}": containers read and write what they share`)
    else {
      const volume = source === '' ? `${name}-volume-${n + 1}` : source
      if (!volumes.has(volume)) volumes.set(volume, { name: volume })
      mounts.push({ name: volume, path })
    }
  }
  return mounts
}

function restartOf(said: string, refuse: Refuse): NonNullable<ContainerToml['restart']> {
  const [policy = '', retries] = said.split(':')
  if (policy === 'no') return { policy: 'never' }
  if (policy === 'always' || policy === 'unless-stopped') return { policy: 'always' }
  if (policy === 'on-failure')
    return { policy, ...(retries === undefined ? {} : { retries: Number(retries) }) }
  refuse('restart', `is one of "no", always, on-failure, unless-stopped, not ${said}`)
  return {}
}

function variablesOf(
  said: NonNullable<Service['environment']>,
  key: string,
  refuse: Refuse,
): Record<string, string> {
  const pairs = Array.isArray(said)
    ? said.map((pair: string) => {
        const at = pair.indexOf('=')
        if (at < 0)
          refuse(
            key,
            `takes ${pair} from this machine, which is not where it runs: give it a value`,
          )
        return [pair.slice(0, Math.max(at, 0)), pair.slice(at + 1)] as const
      })
    : Object.entries(said)
  for (const [name, value] of pairs)
    if (/(^|[^$])\$\{?[A-Za-z_]/.test(value))
      refuse(
        key,
        `has ${name}=${value}: variables are not replaced; write the value, or set a secret`,
      )
  return Object.fromEntries(pairs.map(([name, value]) => [name, value.replaceAll('$$', '$')]))
}

function buildOf(build: Service['build']): Compose['build'] {
  if (build === undefined || typeof build === 'string') return {}
  const { dockerfile, target, args } = build
  return {
    ...(dockerfile === undefined ? {} : { dockerfile }),
    ...(target === undefined ? {} : { target }),
    ...(args === undefined ? {} : { args: variablesOf(args, 'build', () => {}) }),
  }
}

function placeOf(root: TomlTable, service: string, key: string) {
  const services = root.entries.get('services')?.value
  const entry = services?.kind === 'table' ? services.entries.get(service) : undefined
  const inside = entry?.value.kind === 'table' ? entry.value.entries.get(key) : undefined
  return inside ?? entry ?? root
}

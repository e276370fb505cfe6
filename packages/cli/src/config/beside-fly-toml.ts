import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { usage } from '../failure/failure.ts'
import { readCompose } from './compose.ts'
import { textOf } from './config-file.ts'
import { MAIN_CONTAINER } from './container-config.ts'
import type { FlyToml } from './fly-toml.ts'
import type { MachineTemplate } from './machine-config.ts'

/** In the order in which they are looked for. */
const COMPOSE_FILES = [
  'compose.yaml',
  'compose.yml',
  'docker-compose.yaml',
  'docker-compose.yml',
] as const

export interface WithFiles {
  readonly config: FlyToml
  /** What `machine_config` says, for the keys that fly.toml has no word for. */
  readonly base: Partial<MachineTemplate>
  readonly warnings: readonly string[]
}

/** What fly.toml leaves to other files, from where it lies: `[build.compose]` and `machine_config`. */
export function withFilesBeside(config: FlyToml, folder: string): WithFiles {
  const base = machineConfigBeside(config, folder)
  const compose = config.build?.compose
  if (compose === undefined) return { config, base, warnings: [] }
  if (config.containers !== undefined)
    throw usage('fly.toml has both [[containers]] and [build.compose]: one of them says what runs')
  const name = compose.file ?? COMPOSE_FILES.find((one) => existsSync(join(folder, one)))
  if (name === undefined)
    throw usage(`[build.compose] is there, and none of ${COMPOSE_FILES.join(', ')}`)
  const path = resolve(folder, name)
  if (!existsSync(path)) throw usage(`there is no ${name}, which [build.compose] names`)
  const read = readCompose(textOf(path, name), name)
  const [first] = read.containers
  const main = read.built ?? first?.name ?? MAIN_CONTAINER
  const image = read.built === null ? first?.image : undefined
  const { dockerfile, target, args } = read.build
  return {
    config: {
      ...config,
      container: main,
      containers: read.containers,
      volumes: [...(config.volumes ?? []), ...read.volumes],
      build: {
        ...(image === undefined ? {} : { image }),
        ...(dockerfile === undefined ? {} : { dockerfile }),
        ...(target === undefined ? {} : { 'build-target': target }),
        ...(args === undefined ? {} : { args }),
        // What fly.toml itself says goes first.
        ...config.build,
      },
    },
    base,
    warnings: read.warnings,
  }
}

/** JSON, or the path of a file with it. The image of the app's own container is the one that is built. */
function machineConfigBeside(config: FlyToml, folder: string): Partial<MachineTemplate> {
  const said = config.machine_config
  if (said === undefined) return {}
  const inline = said.trimStart().startsWith('{')
  if (!inline && !existsSync(resolve(folder, said)))
    throw usage(`there is no ${said}, which machine_config names`)
  const name = inline ? 'machine_config' : said
  let json: unknown
  try {
    json = JSON.parse(inline ? said : textOf(resolve(folder, said), said))
  } catch (cause) {
    throw usage(`${name} is no JSON: ${cause instanceof Error ? cause.message : cause}`)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw usage(`${name} is no table of keys, as the config of a machine is`)
  const { image: _, containers, ...rest } = json as Partial<MachineTemplate> & { image?: string }
  if (!Array.isArray(containers) || containers.length === 0) return rest
  const names = containers.map((one: { name?: string }) => one.name)
  const main = config.container ?? (names.includes(MAIN_CONTAINER) ? MAIN_CONTAINER : names[0])
  return {
    ...rest,
    containers: containers.map((one) => {
      if (one.name !== main) return one
      const { image: own, ...container } = one
      return container
    }),
  }
}

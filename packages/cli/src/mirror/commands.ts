import { readFileSync } from 'node:fs'
import { PORTS } from '@roost/api'
import { hostMeshIpv4 } from '@roost/core'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import type { CommandModule } from '../command-table.ts'
import { Failure } from '../failure/failure.ts'
import { ownRegistry } from '../host/real-host.ts'
import { DEFAULT_NAME } from '../playground/plan.ts'
import { apiUrlOf, planOf, tokenFileOf } from '../playground/state.ts'
import { caFileOf } from '../playground/up.ts'
import { progressOn } from '../terminal/progress.ts'
import { tableText } from '../terminal/table.ts'
import { bytes, span } from '../terminal/time.ts'
import { BASE_IMAGES, chooseImages, shortName } from './base-images.ts'
import { listMirror, type MirrorOptions, seedMirror } from './seed.ts'

interface Options {
  readonly playground?: string
  readonly refresh?: boolean
  readonly all?: boolean
  readonly json?: boolean
}

const OTHERS = BASE_IMAGES.filter(({ always }) => !always).map(shortName)

const PLAYGROUND = ['--playground <name>', 'that of a playground instead of this host'] as const

export const seedCommand: CommandModule = {
  register(mirror, context) {
    const command = mirror
      .command('seed')
      .description(
        'Bring base images into the registry, from Docker Hub where it answers, else made of Debian and npm packages: debian:bookworm-slim and node:22-slim, and those that are named',
      )
      .argument('[image...]', `more of them: ${OTHERS.join(', ')}`)
      .option('--all', 'all of them')
      .option('--refresh', 'fetch or make them anew')
      .option(...PLAYGROUND)
    explained(command, {
      examples: [
        'roost mirror seed',
        'roost mirror seed python:3.11-slim busybox',
        `roost mirror seed --playground ${DEFAULT_NAME} --refresh`,
      ],
      json: '[{name, digest, source: upstream|packages, sentBytes, ms}]',
    })
    command.action((images: string[], options: Options) => seed(context, images, options))
  },
}

export const listCommand: CommandModule = {
  register(mirror, context) {
    const command = mirror
      .command('list')
      .description('Base images, and whether the registry has them')
      .option(...PLAYGROUND)
    explained(command, { examples: ['roost mirror list'], json: '[{name, digest | null}]' })
    command.action(async (options: Options) => {
      const images = await listMirror(registryOf(options))
      if (options.json) return printJson(context, images)
      const rows = images.map(({ name, digest }) => [
        name,
        digest ?? `not there: roost mirror seed ${name.replace('docker.io/library/', '')}`,
      ])
      context.stdout.write(`${tableText(['IMAGE', 'DIGEST'], rows, context.stdout)}\n`)
    })
  },
}

async function seed(
  context: CliContext,
  names: readonly string[],
  options: Options,
): Promise<void> {
  const { chosen, unknown } = chooseImages(options.all ? BASE_IMAGES.map(shortName) : names)
  if (unknown.length > 0)
    throw new Failure(`there is no recipe for ${unknown.join(', ')}`, {
      why: 'it can be made of packages for some images only',
      fix: `choose of ${BASE_IMAGES.map(shortName).join(', ')}; or build it elsewhere and push it to the registry`,
    })
  const progress = progressOn(context, options.json ? context.stderr : context.stdout)
  try {
    const seeded = await seedMirror({
      ...registryOf(options),
      images: chosen,
      refresh: options.refresh ?? false,
      signal: context.interrupted(),
      onProgress: (text) => progress.update('mirror', text),
    })
    progress.finish('mirror', 'done', `${seeded.length} images are in the registry`)
    progress.stop()
    if (options.json) return printJson(context, seeded)
    const rows = seeded.map(({ name, source, sentBytes, ms }) => [
      name,
      source === 'upstream' ? 'Docker Hub' : 'packages',
      bytes(sentBytes),
      span(ms),
    ])
    context.stdout.write(`${tableText(['IMAGE', 'FROM', 'SENT', 'TIME'], rows, context.stdout)}\n`)
  } finally {
    progress.stop()
  }
}

/** Only the machine of the server reaches the registry; without `--playground` its own host goes before a playground. */
function registryOf(options: Options): MirrorOptions {
  const own = options.playground === undefined ? ownRegistry() : null
  if (own !== null) return own
  const plan = planOf(options.playground)
  const [first] = plan.regions
  if (first === undefined) throw new Failure(`the playground ${plan.name} has no region`)
  return {
    apiUrl: apiUrlOf(plan),
    apiToken: readFileSync(tokenFileOf(plan), 'utf8').trim(),
    registryUrl: `https://${hostMeshIpv4(first)}:${PORTS.registry}`,
    ca: readFileSync(caFileOf(plan), 'utf8'),
    netns: `/run/netns/${first.netns}`,
  }
}

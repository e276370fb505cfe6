import { existsSync, statSync } from 'node:fs'
import { isAbsolute, join, relative } from 'node:path'
import type { ApiClient, BuildRequest } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { textOf } from '../config/config-file.ts'
import type { FlyToml } from '../config/fly-toml.ts'
import { Failure, usage } from '../failure/failure.ts'
import { untilInterrupted } from '../terminal/interrupt.ts'
import type { Progress } from '../terminal/progress.ts'
import { harmless } from '../terminal/style.ts'
import { bytes, span } from '../terminal/time.ts'

export interface BuildFlags {
  readonly dockerfile?: string | undefined
  readonly ignorefile?: string | undefined
  readonly target?: string | undefined
  readonly args?: Readonly<Record<string, string>> | undefined
  readonly noCache?: boolean | undefined
}

export interface BuiltImage {
  readonly image: string
  readonly sizeBytes: number
  readonly uploadMs: number
  readonly buildMs: number
  readonly pushMs: number
}

/** Where the Dockerfile is, as a path inside the context. Flags go before the file. */
export function dockerfileOf(
  folder: string,
  config: FlyToml,
  flags: BuildFlags,
  cwd: string,
): string {
  const said = flags.dockerfile ?? config.build?.dockerfile
  if (said !== undefined && /^https?:\/\//.test(said))
    throw usage(`a Dockerfile at a URL is not fetched: ${said}`, 'save it in the folder')
  // A flag is relative to where the person is, a key to the file that it stands in.
  const path =
    said === undefined
      ? join(folder, 'Dockerfile')
      : isAbsolute(said)
        ? said
        : join(flags.dockerfile === undefined ? folder : cwd, said)
  const inside = relative(folder, path)
  if (inside.startsWith('..') || isAbsolute(inside))
    throw usage(`${said} lies outside of ${folder}, which is what is sent to the builder`)
  if (existsSync(path)) {
    checkDockerfile(path, said ?? 'Dockerfile')
    return inside
  }
  if (said !== undefined) throw usage(`there is no ${said}`)
  throw new Failure(`there is no Dockerfile in ${folder}`, {
    why:
      config.build?.builder || config.build?.buildpacks
        ? 'fly.toml asks for buildpacks; only Dockerfiles are built'
        : 'Roost builds what a Dockerfile says',
    fix: [
      'write one: FROM node:22-slim, COPY, CMD …',
      'or name it: --dockerfile FILE',
      'or deploy an image that exists: roost deploy --image IMAGE',
    ],
    exitCode: 2,
  })
}

/** A folder of this size most often has something in it that no image needs. */
const LARGE_BYTES = 100_000_000
/** What a builder takes. */
const DOCKERFILE_BYTES_MAX = 1_000_000

/** Said here, before anything is sent. */
function checkDockerfile(path: string, shown: string): void {
  const found = statSync(path)
  if (!found.isFile())
    throw usage(`${shown} is ${found.isDirectory() ? 'a folder' : 'no file'}`, [
      `--dockerfile ${shown}/Dockerfile   # if it is in there`,
    ])
  if (found.size > DOCKERFILE_BYTES_MAX)
    throw usage(
      `${shown} is ${bytes(found.size)} long: at most ${bytes(DOCKERFILE_BYTES_MAX)} are built`,
    )
  const text = textOf(path, shown)
  const first = text.split('\n').findIndex((line) => /^\s*[^\s#]/.test(line))
  if (first < 0)
    throw usage(`${shown} is empty`, 'write what to build: FROM node:22-slim, COPY, CMD …')
}

/** Sends the folder, shows the build as it goes, and returns the image with its digest. */
export async function buildImage(
  context: CliContext,
  client: ApiClient,
  app: string,
  folder: string,
  config: FlyToml,
  flags: BuildFlags,
  progress: Progress,
): Promise<BuiltImage> {
  const dockerfile = dockerfileOf(folder, config, flags, context.cwd)
  const request: BuildRequest = {
    dockerfile,
    target: flags.target ?? config.build?.['build-target'] ?? null,
    args: { ...config.build?.args, ...flags.args },
    no_cache: flags.noCache ?? false,
  }
  const { packContext, surveyContext } = await import('../build/pack-context.ts')
  const signal = context.interrupted()
  const start = performance.now()
  const toPack = {
    folder,
    dockerfile,
    ignorefile: flags.ignorefile ?? config.build?.ignorefile,
  }
  const survey = await untilInterrupted(signal, surveyContext(toPack))
  if (survey.bytes > LARGE_BYTES)
    progress.line(
      `Sending ${survey.files} files, ${bytes(survey.bytes)}; the largest: ${survey.largest.join(', ')}. What .dockerignore names stays here.`,
    )
  const body = packContext({
    ...toPack,
    onProgress: (read) =>
      progress.passing('context', `sending ${read.files} files, ${bytes(read.bytes)}`),
  })
  try {
    const events = client.createBuild(
      { params: { app }, body },
      {
        signal,
        headers: {
          'roost-build': Buffer.from(JSON.stringify(request)).toString('base64'),
          'content-type': 'application/gzip',
        },
      },
    )
    for await (const event of events) {
      progress.passing('context', null)
      if (event.kind === 'step')
        progress.line(progress.style.bold(harmless(event.name, context.stdout)))
      if (event.kind === 'output')
        progress.line(progress.style.dim(harmless(event.text, context.stdout).trimEnd()))
      if (event.kind === 'failed') throw buildFailure(event.code, event.message)
      if (event.kind === 'done') {
        const { image, size_bytes: sizeBytes, build_ms: buildMs, push_ms: pushMs } = event
        const uploadMs = Math.max(0, performance.now() - start - buildMs - pushMs)
        progress.line(`Image ${image} (${bytes(sizeBytes)}) in ${span(performance.now() - start)}`)
        return { image, sizeBytes, uploadMs, buildMs, pushMs }
      }
    }
  } catch (error) {
    progress.passing('context', null)
    if (!signal.aborted) throw error
    throw new Failure('the build was cancelled; nothing was released', { exitCode: 130 })
  }
  throw new Failure('the build ended without an answer', {
    why: 'the server or the builder was stopped',
    fix: 'roost deploy   # again; layers that were built are kept',
  })
}

/** What went wrong, and whose part it is to do something. */
function buildFailure(code: string, message: string): Failure {
  const failure = (what: string, fix: readonly string[] = []) =>
    new Failure(`${what}; nothing was released`, { why: message, fix, code })
  switch (code) {
    case 'build_failed':
      return failure('the build failed')
    case 'invalid':
    case 'unsupported':
      return failure('the builder refuses this')
    case 'disk_full':
      return failure('the disk of the builder is full', ['roost doctor   # what takes room'])
    case 'timeout':
      return failure('the build took too long', [
        'roost deploy   # again: layers that were built are kept',
      ])
    case 'unavailable':
      return failure('the builder lacks a part that it needs', [
        'roost hosts   # whether all of them answer',
        'roost deploy   # again, when it is back',
      ])
    default:
      return failure(`the build failed (${code})`)
  }
}

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { type Footprint, footprint } from './footprint.ts'
import { eventually, terminal } from './terminal.ts'

/**
 * The playground that all end-to-end tests share: three regions, each with a host and a client near it. To raise one and to bring the
 * base images to its hosts costs more than most tests. Each file launches apps of its own there and destroys them;
 * `down.e2e.test.ts`, always the last, takes it down.
 */
export const NAME = 'e2e'
export const NETWORK = '198.19'
export const REGIONS = ['ams', 'iad', 'syd'] as const
export type Region = (typeof REGIONS)[number]
export const PLAYGROUND = ['--name', NAME]

declare module 'vitest' {
  interface ProvidedContext {
    /** What there was before the playground. */
    readonly before: Footprint
    /** Home of the person who raised it: `terminal(inject('home'))` is logged in. */
    readonly home: string
  }
}

/** Before the first file, and after the last one, whatever has failed. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = mkdtempSync(join(tmpdir(), 'roost-e2e-'))
  const { json, roost } = terminal(home)
  const down = async () => {
    await roost(['playground', 'down', ...PLAYGROUND])
    rmSync(home, { recursive: true, force: true })
  }
  try {
    await roost(['playground', 'down', ...PLAYGROUND])
    project.provide('home', home)
    project.provide('before', await footprint())
    const regions = ['--regions', REGIONS.join(',')]
    await json(['playground', 'up', ...regions, '--network', NETWORK, ...PLAYGROUND])
  } catch (error) {
    await down()
    throw error
  }
  return down
}

/** What a file launched is taken away, so that the next one finds an empty playground. */
export async function destroyAllApps({ ok, json }: ReturnType<typeof terminal>): Promise<void> {
  const apps = await json<readonly { readonly name: string }[]>(['apps', 'list'])
  await Promise.all(apps.map(({ name }) => ok(['apps', 'destroy', name, '--yes'])))
  await eventually('no app is left', 30_000, async () => {
    const left = await json<readonly unknown[]>(['apps', 'list'])
    return left.length === 0
  })
}

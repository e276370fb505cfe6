import { GUEST_SIZE_DEFAULT } from '../config/guest.ts'

/** The file that `roost launch` writes: only what was decided, so that it reads as a beginning. */
export function newFlyToml(app: {
  readonly name: string
  readonly primaryRegion: string
  readonly internalPort: number
  readonly size: string
  /** Where it is not what the size has. */
  readonly memoryMb?: number | undefined
  readonly dockerfile?: string | undefined
}): string {
  const size = app.size === '' ? GUEST_SIZE_DEFAULT : app.size
  const build =
    app.dockerfile === undefined
      ? ''
      : `\n[build]\n  dockerfile = ${JSON.stringify(app.dockerfile)}\n`
  return `# Written by roost launch. The format is Fly's fly.toml.
app = "${app.name}"
primary_region = "${app.primaryRegion}"
${build}
[http_service]
  internal_port = ${app.internalPort}

[[vm]]
  size = "${size}"
${app.memoryMb === undefined ? '' : `  memory = "${app.memoryMb}mb"\n`}`
}

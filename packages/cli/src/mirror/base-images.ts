import type { DebianRecipe } from './build-from-debian.ts'

/** A base image that Roost can make by itself where no registry of the world is reached. */
export interface BaseImage {
  /** On Docker Hub: `library/python`. */
  readonly repository: string
  readonly tag: string
  /** Made by a recipe of its own, or from packages on top of our Debian. */
  readonly made: 'debian' | 'node' | 'busybox' | DebianRecipe
  /** Brought into every registry; the others when they are asked for. */
  readonly always: boolean
}

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const PYTHON: DebianRecipe = {
  packages: ['python3', 'python3-pip', 'python3-venv', 'ca-certificates', 'netbase', 'tzdata'],
  run: [
    'ln -s /usr/bin/python3 /usr/local/bin/python',
    'for name in python3 python3.11 pip pip3; do ln -s /usr/bin/$name /usr/local/bin/$name; done',
    // In a container nobody else owns what pip would overwrite.
    'rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED',
  ],
  settings: {
    env: [`PATH=${SYSTEM_PATH}`, 'LANG=C.UTF-8', 'PYTHON_VERSION=3.11'],
    cmd: ['python3'],
    createdBy: 'roost mirror seed: python 3.11 from Debian packages',
  },
}

const RUBY: DebianRecipe = {
  packages: ['ruby', 'ruby-bundler', 'ca-certificates', 'netbase', 'tzdata'],
  run: [
    'mkdir -p /usr/local/bundle && chmod 1777 /usr/local/bundle',
    'for name in ruby gem irb bundle rake; do ln -s /usr/bin/$name /usr/local/bin/$name; done',
  ],
  settings: {
    env: [
      `PATH=/usr/local/bundle/bin:${SYSTEM_PATH}`,
      'LANG=C.UTF-8',
      'RUBY_VERSION=3.1',
      'GEM_HOME=/usr/local/bundle',
      'BUNDLE_APP_CONFIG=/usr/local/bundle',
      'BUNDLE_SILENCE_ROOT_WARNING=1',
    ],
    cmd: ['irb'],
    createdBy: 'roost mirror seed: ruby 3.1 from Debian packages',
  },
}

const GOLANG: DebianRecipe = {
  packages: [
    'golang-go',
    'g++',
    'gcc',
    'libc6-dev',
    'make',
    'pkg-config',
    'git',
    'ca-certificates',
  ],
  run: ['ln -s /usr/lib/go /usr/local/go', 'mkdir -p /go/src /go/bin && chmod -R 1777 /go'],
  settings: {
    env: [`PATH=/go/bin:/usr/local/go/bin:${SYSTEM_PATH}`, 'GOLANG_VERSION=1.19', 'GOPATH=/go'],
    cmd: ['bash'],
    createdBy: 'roost mirror seed: golang 1.19 from Debian packages',
  },
}

const ELIXIR: DebianRecipe = {
  packages: ['elixir', 'erlang-nox', 'erlang-dev', 'ca-certificates', 'git', 'make'],
  settings: {
    env: [`PATH=${SYSTEM_PATH}`, 'LANG=C.UTF-8', 'ELIXIR_VERSION=1.14'],
    cmd: ['iex'],
    createdBy: 'roost mirror seed: elixir 1.14 from Debian packages',
  },
}

/** The first is the ground of all that are made from packages. */
export const BASE_IMAGES: readonly [BaseImage, ...BaseImage[]] = [
  { repository: 'library/debian', tag: 'bookworm-slim', made: 'debian', always: true },
  { repository: 'library/node', tag: '22-slim', made: 'node', always: true },
  { repository: 'library/busybox', tag: 'latest', made: 'busybox', always: false },
  { repository: 'library/python', tag: '3.11-slim', made: PYTHON, always: false },
  { repository: 'library/ruby', tag: '3.1-slim', made: RUBY, always: false },
  { repository: 'library/golang', tag: '1.19', made: GOLANG, always: false },
  { repository: 'library/elixir', tag: '1.14-slim', made: ELIXIR, always: false },
]

/** As people write it: `python:3.11-slim`. */
export function shortName({ repository, tag }: BaseImage): string {
  return `${repository.replace(/^library\//, '')}:${tag}`
}

/** Those that always belong there and those that are named; what is not known is returned by itself. */
export function chooseImages(names: readonly string[]): {
  readonly chosen: readonly BaseImage[]
  readonly unknown: readonly string[]
} {
  const wanted = new Set(names.map(plainName))
  const chosen = BASE_IMAGES.filter((image) => image.always || wanted.has(shortName(image)))
  const known = new Set(BASE_IMAGES.map(shortName))
  return { chosen, unknown: [...wanted].filter((name) => !known.has(name)) }
}

/** `docker.io/library/busybox` is `busybox:latest`. */
function plainName(name: string): string {
  const plain = name.replace(/^docker\.io\//, '').replace(/^library\//, '')
  return plain.includes(':') ? plain : `${plain}:latest`
}

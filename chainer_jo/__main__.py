from chainer_jo.cli import main

main()
